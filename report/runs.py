"""Runs for reports: a run's folder, each of its files checked once, and the set of runs in the tables."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from cache.keys import digest_file
from cache.run_files import read_json, read_object
from cache.tables import Posts, read_posts
from schema.errors import DataError, RunError
from schema.prediction import Prediction
from schema.records import Split

SCORES = ("precision", "recall", "f1", "n_gold", "n_predicted", "n_correct")  # of each type, and of all together
SPLIT_ORDER = ("test", "dev", "predict", "train")  # most interesting first
EVALUATE = "score the run again (`fmit evaluate`)"
Key = tuple[str, str, int]  # dataset, approach, seed
TEXT_ONLY = "bert-crf"  # the baseline that Figure 4 compares the other approaches with
RANDOM_BOXES = "fmit-random-boxes"  # the row of `fmit` on boxes drawn at random


class Run(NamedTuple):
    """The contents of a run folder; `metrics` and `predictions` by split, in the order of `SPLIT_ORDER`."""

    name: str
    config: Mapping[str, Any]
    curves: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, Mapping[str, Any]]
    predictions: Mapping[str, list[Prediction]]
    synthetic: bool

    @property
    def types(self) -> tuple[str, ...]:
        """Entity types in the order of the label set, then any others in the scores or predictions."""
        scored = chain.from_iterable(scores["strict"]["types"] for scores in self.metrics.values())
        predictions = chain.from_iterable(self.predictions.values())
        others = (entity.type for each in predictions for entity in (*(each.gold or ()), *each.predicted))
        return tuple(dict.fromkeys([*label_words(self.config), *scored, *others]))


def read_run(folder: Path) -> Run:
    """Read the files of a run that a report shows; raises RunError if one is missing or damaged."""
    config = read_object(folder / "model" / "config.json", "train and evaluate the run")
    curves = read_json(folder / "curves.json", "train the run again") if (folder / "curves.json").exists() else []
    if not isinstance(curves, list) or not all(isinstance(row, dict) for row in curves):
        raise RunError("not a list of epochs", where=str(folder / "curves.json"), todo="train the run again")
    metrics, predictions = {}, {}
    for split in SPLIT_ORDER:
        if (path := folder / "scores" / f"metrics-{split}.json").exists():
            metrics[split] = read_metrics(path)
        if (path := folder / "scores" / f"predictions-{split}.jsonl").exists():
            predictions[split] = list(read_predictions(path))
    if not metrics and not predictions:
        raise RunError("the run has no scores", where=str(folder), todo="run `fmit evaluate` first")
    synthetic = any(scores.get("synthetic") for scores in metrics.values())
    synthetic |= '"synthetic": true' in json.dumps(config)  # anywhere, for example in the description of the pack
    return Run(folder.resolve().name, config, tuple(curves), metrics, predictions, synthetic)


def read_predictions(path: Path) -> Iterator[Prediction]:
    """The predictions of a file, one at a time; raises RunError with file:line."""
    if not path.is_file():
        raise RunError("predictions are missing", where=str(path), todo="score the run again (fmit evaluate)")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield Prediction.from_json(json.loads(line))
            except (ValueError, DataError) as error:
                where = f"{path}:{number}"
                raise RunError("not a readable prediction", where=where, found=str(error), todo=EVALUATE) from error


def read_metrics(path: Path) -> dict[str, Any]:
    """The scores of a split, checked for everything that pages and tables read; raises RunError."""
    value = read_object(path, EVALUATE)
    try:
        for reading in (value["strict"], *([value["lenient"]] if value.get("lenient") else [])):
            for scores in (reading["micro"], *reading["types"].values()):
                for name in SCORES:
                    float(scores[name])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found = f"{type(error).__name__} {error}"
        raise RunError("not a file of scores", where=str(path), found=found, todo=EVALUATE) from None
    return value


def label_words(config: Mapping[str, Any]) -> dict[str, str]:
    """General words by entity type, in the run's order, from its configuration; empty if it has none."""
    pairs, _ = config.get("labels") or ((), ())
    return {str(name): str(word) for name, word in pairs}


@dataclass(frozen=True)
class RunSet:
    posts: Mapping[str, Path]  # posts.parquet of each dataset
    runs: Mapping[Key, Mapping[str, Path]]  # folders with scores of a run, by the dataset that was scored
    approaches: tuple[str, ...]  # in the order of the tables
    missing: Mapping[tuple[str, str], str] = field(default_factory=dict)  # why an approach has no run on a dataset
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # remarks below a dataset's tables
    _files: dict[Path, Any] = field(default_factory=dict, repr=False, compare=False)  # contents by path

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for _, _, seed in self.runs}))

    def table(self, dataset: str) -> Posts:
        path = self.posts[dataset]
        if path not in self._files:
            self._files[path] = read_posts(path)
        return self._files[path]

    def split(self, dataset: str) -> Split:
        """The split that the tables show: test if it has labels and any run is scored on it, else dev."""
        has_labels = any(post.split == "test" and post.tags is not None for post in self.table(dataset).posts)
        folders = [folders[dataset] for folders in self.runs.values() if dataset in folders]
        is_scored = not folders or any((folder / "metrics-test.json").is_file() for folder in folders)
        return "test" if has_labels and is_scored else "dev"

    def folders(self, dataset: str, approach: str, scored_on: str | None = None) -> dict[int, Path]:
        """Folders with an approach's scores on the split that the tables show, by seed."""
        target = scored_on or dataset
        folders = {seed: self.runs.get((dataset, approach, seed), {}).get(target) for seed in self.seeds}
        name = f"metrics-{self.split(target)}.json"
        return {seed: folder for seed, folder in folders.items() if folder and (folder / name).is_file()}

    def scored(self, dataset: str) -> list[str]:
        """Approaches that have a scored run on a dataset."""
        return [name for name in self.approaches if self.folders(dataset, name)]

    def metrics(self, dataset: str, approach: str, scored_on: str | None = None) -> list[dict[str, Any]]:
        """An approach's metrics on the split that the tables show, one for each seed."""
        name = f"metrics-{self.split(scored_on or dataset)}.json"
        return [read_metrics(folder / name) for folder in self.folders(dataset, approach, scored_on).values()]

    def predictions(self, dataset: str, approach: str, seed: int) -> list[Prediction]:
        """Predictions for the labeled posts; raises RunError if the file is missing."""
        path = self.folders(dataset, approach)[seed] / f"predictions-{self.split(dataset)}.jsonl"
        if path not in self._files:
            self._files[path] = [prediction for prediction in read_predictions(path) if prediction.gold is not None]
        return self._files[path]

    def by_approach(self, dataset: str) -> dict[str, dict[int, list[Prediction]]]:
        """The predictions of each approach that has a scored run, by seed."""
        return {
            name: {seed: self.predictions(dataset, name, seed) for seed in self.folders(dataset, name)}
            for name in self.scored(dataset)
        }

    def remark(self, dataset: str, approach: str, scored_on: str | None = None) -> str:
        """Why a row lacks scores for some or all seeds; "" if it has all."""
        target = scored_on or dataset
        if absent := next((name for name in (dataset, target) if name not in self.posts), None):
            return f"not run: no posts of {absent}"
        n_trained = sum((dataset, approach, seed) in self.runs for seed in self.seeds)
        n, reason = len(self.folders(dataset, approach, target)), self.missing.get((dataset, approach), "")
        if n < n_trained:
            reason = f"{n_trained - n} not scored on {target}, {self.split(target)} split"
        if n and n == len(self.seeds):
            return ""
        count = f"{n} of {len(self.seeds)} seeds" if n else "not scored" if n_trained else "not run"
        return f"{count}: {reason}" if reason else count


def find_scores(run: Path, posts: Mapping[str, str]) -> dict[str, Path]:
    """Folders with scores of a run's present weights, by dataset; `posts` are digests of posts.parquet by dataset."""
    path = run / "model" / "weights.safetensors"
    if not path.is_file():
        return {}
    weights = digest_file(path)
    scores: dict[str, Path] = {}
    for folder in (run / "scores", *sorted(run.glob("on/*/scores"))):
        metrics = [read_metrics(file) for file in folder.glob("metrics-*.json")]
        origins = {(values.get("weights"), values.get("posts")) for values in metrics}
        for dataset in [name for name, digest in posts.items() if origins == {(weights, digest)}]:
            scores.setdefault(dataset, folder)
    return scores

"""Trained runs by dataset, approach and seed, with their scores and predictions: what the tables are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache.keys import digest_file
from cache.tables import Posts, read_posts
from report.runs import read_metrics, read_predictions
from schema.errors import RunError
from schema.labels import entities
from schema.prediction import Prediction
from schema.records import SPLITS, Split

Key = tuple[str, str, int]  # dataset, approach, seed
TEXT_ONLY = "bert-crf"  # the baseline that Figure 4 compares the other approaches with
RANDOM_BOXES = "fmit-random-boxes"  # the row of `fmit` on boxes drawn at random


@dataclass(frozen=True)
class RunSet:
    """The runs that the tables report.

    `posts` is each dataset's posts.parquet; `runs` are folders with scores of a run, by the dataset that was scored;
    `approaches` are in the order of the tables; `missing` says why an approach has no run on a dataset; `notes` are
    remarks below a dataset's tables.
    """

    posts: Mapping[str, Path]
    runs: Mapping[Key, Mapping[str, Path]]
    approaches: tuple[str, ...]
    missing: Mapping[tuple[str, str], str] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _files: dict[Path, Any] = field(default_factory=dict, repr=False, compare=False)  # contents by path

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(self.posts)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for _, _, seed in self.runs}))

    @property
    def crossings(self) -> tuple[tuple[str, str], ...]:
        """Pairs (trained on, scored on) of different datasets for which a run has scores."""
        pairs = {(name, other) for (name, _, _), folders in self.runs.items() for other in folders}
        return tuple(sorted((name, other) for name, other in pairs if name != other))

    def table(self, dataset: str) -> Posts:
        """The dataset's posts and labels."""
        path = self.posts[dataset]
        if path not in self._files:
            self._files[path] = read_posts(path)
        return self._files[path]

    def types(self, dataset: str) -> tuple[str, ...]:
        return self.table(dataset).labels.types

    def split(self, dataset: str) -> Split:
        """The split that the tables show: test if it has labels and any run is scored on it, else dev."""
        has_test = any(post.split == "test" and post.tags is not None for post in self.table(dataset).posts)
        folders = [folders[dataset] for folders in self.runs.values() if dataset in folders]
        scored = not folders or any((folder / "metrics-test.json").is_file() for folder in folders)
        return "test" if has_test and scored else "dev"

    def of(self, dataset: str, approach: str, scored_on: str | None = None) -> dict[int, Path]:
        """Folders with an approach's scores on the split that the tables show, by seed."""
        target = scored_on or dataset
        folders = {seed: self.runs.get((dataset, approach, seed), {}).get(target) for seed in self.seeds}
        name = f"metrics-{self.split(target)}.json"
        return {seed: folder for seed, folder in folders.items() if folder and (folder / name).is_file()}

    def present(self, dataset: str) -> list[str]:
        """Approaches that have a scored run on a dataset."""
        return [name for name in self.approaches if self.of(dataset, name)]

    def metrics(self, dataset: str, approach: str, scored_on: str | None = None) -> list[dict[str, Any]]:
        """An approach's metrics on the split that the tables show, one for each seed."""
        name = f"metrics-{self.split(scored_on or dataset)}.json"
        return [read_metrics(folder / name) for folder in self.of(dataset, approach, scored_on).values()]

    def lines(self, dataset: str, approach: str, seed: int) -> list[Prediction]:
        """Predictions for the labelled posts; raises RunError if the file is missing."""
        path = self.of(dataset, approach)[seed] / f"predictions-{self.split(dataset)}.jsonl"
        if path not in self._files:
            if not path.is_file():
                raise RunError("predictions are missing", where=str(path), todo="score the run again (fmit evaluate)")
            self._files[path] = [line for line in read_predictions(path) if line.gold is not None]
        return self._files[path]

    def known_entities(self, dataset: str) -> frozenset[str]:
        """Case-folded texts of the entities in the training posts."""
        return frozenset(
            " ".join(post.words[one.span.start : one.span.end]).casefold()
            for post in self.table(dataset).posts
            if post.split == "train" and post.tags is not None
            for one in entities(post.tags)
        )

    def why(self, dataset: str, approach: str, scored_on: str | None = None) -> str:
        """Why a row has no scores, or not those of all seeds; "" if it has all."""
        target = scored_on or dataset
        if absent := next((name for name in (dataset, target) if name not in self.posts), None):
            return f"not run: no posts of {absent}"
        trained = sum((dataset, approach, seed) in self.runs for seed in self.seeds)
        n, reason = len(self.of(dataset, approach, target)), self.missing.get((dataset, approach), "")
        if n < trained:
            reason = f"{trained - n} not scored on {target}, {self.split(target)} split"
        if n and n == len(self.seeds):
            return ""
        count = f"{n} of {len(self.seeds)} seeds" if n else "not scored" if trained else "not run"
        return f"{count}: {reason}" if reason else count


def find_scores(run: Path, posts: Mapping[str, str]) -> dict[str, Path]:
    """Folders with scores of a run's present weights, by dataset; `posts` are digests of posts.parquet by dataset.

    Scores of other weights or of other posts are left out.
    """
    weights = digest_file(run / "model" / "weights.safetensors")
    found: dict[str, Path] = {}
    for folder in (run / "scores", *sorted(run.glob("on/*/scores"))):
        files = [path for split in SPLITS if (path := folder / f"metrics-{split}.json").is_file()]
        stamps = {(one.get("weights"), one.get("posts")) for one in map(read_metrics, files)}
        for dataset, digest in posts.items():
            if stamps == {(weights, digest)}:
                found.setdefault(dataset, folder)
    return found

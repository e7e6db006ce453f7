"""Score a run on splits of a dataset: predictions, metrics and confusion, as files that the report and DVC read."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cache import atomic, keys
from cache.tables import read_posts
from model.metrics import confusion, score
from model.objects import open_pack
from model.predict import Progress, Run
from schema.errors import DataError
from schema.prediction import Prediction
from schema.records import SPLITS
from schema.text import guarded, inert_json

SCHEMA_VERSION = 2  # of the files below; 2 has predictions of schema version 2
SUMMARY = ("f1", "precision", "recall")  # what metrics.json holds of each split: DVC shows a column for each


def run(
    folder: Path,
    posts: Path,
    pack: Path | None,
    splits: Sequence[str],
    out: Path | None = None,
    *,
    asked: Sequence[str] = (),
    images: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Predict and score the named splits that the dataset has, and those in `asked`; returns the metrics by split.

    Writes below `out` (the run's folder): `scores/` with metrics, predictions and confusion of each split;
    `metrics.json`, strict micro F1, precision and recall by split; `confusion.csv` of the first split. Earlier scores
    of other splits stay if they are of the same weights and posts.
    Raises DataError where a split in `asked` has no labelled posts, where none of the named splits has any, and where
    run and dataset have no entity type in common.
    """
    out = out or folder
    trained, table = Run.load(folder, device), read_posts(posts)
    mismatch = label_mismatch(trained.info.labels.types, table.labels.types, str(folder))
    opened = open_pack(trained.info.config, pack)
    predicted: dict[str, list[Prediction]] = {}
    for split in dict.fromkeys((*splits, *asked)):
        split_posts = [post for post in table.posts if post.split == split]
        if any(post.tags is not None for post in split_posts):
            predicted[split] = trained.predict_pack(split_posts, opened, progress, images)
    if missing := [split for split in asked if split not in predicted] or ([] if predicted else splits):
        raise DataError(f"no labelled posts in {', '.join(missing)}", where=str(posts), todo="see evaluate.splits")
    types = list(dict.fromkeys((*trained.info.labels.types, *table.labels.types)))
    identity: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "weights": weights_digest(folder)}
    identity["posts"] = keys.digest_file(posts)
    extra = identity | ({"label_mismatch": mismatch} if mismatch else {})
    metrics = {split: metrics_of(split, predicted[split], types, trained.info.synthetic) | extra for split in predicted}
    write_scores(out, earlier(out, identity), predicted, metrics)
    return metrics


def label_mismatch(run_types: Sequence[str], dataset_types: Sequence[str], where: str) -> str:
    """A warning that names the entity types which only the run or only the dataset has; "" where the sets are equal.

    Raises DataError where they have no type in common: every score would be 0.
    """
    only_run, only_dataset = (sorted({*a} - {*b}) for a, b in ((run_types, dataset_types), (dataset_types, run_types)))
    if not {*run_types} & {*dataset_types}:
        raise DataError(
            "the run and the dataset have no entity type in common",
            where=where,
            found=f"run: {', '.join(only_run)}; dataset: {', '.join(only_dataset)}",
            todo="give the dataset the run's types (source.labels, source.aliases), or train a run on this dataset",
        )
    sides = [(only_run, "only the run predicts"), (only_dataset, "only the dataset has")]
    return "; ".join(f"{text} {', '.join(types)}" for types, text in sides if types)


def write_scores(
    out: Path,
    kept: dict[str, dict[str, Any]],
    predicted: dict[str, list[Prediction]],
    metrics: dict[str, dict[str, Any]],
) -> None:
    """Publish `scores/`, `metrics.json` and `confusion.csv`; `kept` are metrics of earlier splits whose files stay."""
    kept = {split: one for split, one in kept.items() if split not in metrics}
    with atomic.folder(out / "scores") as new:
        for split in kept:
            for path in (out / "scores").glob(f"*-{split}.*"):
                shutil.copy(path, new / path.name)
        for split, predictions in predicted.items():
            write_split(new, split, predictions, metrics[split])
    scored = kept | metrics
    summary = {split: {name: one["strict"]["micro"][name] for name in SUMMARY} for split, one in scored.items()}
    first = next(split for split in SPLITS if split in scored)
    atomic.write_json(out / "metrics.json", summary)
    atomic.write_text(out / "confusion.csv", (out / "scores" / f"confusion-{first}.csv").read_text(encoding="utf-8"))


def weights_digest(folder: Path) -> str:
    """sha256 of a run's weights."""
    return keys.digest_file((folder / "model" if (folder / "model").is_dir() else folder) / "weights.safetensors")


def earlier(out: Path, identity: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Metrics by split that lie in `out` and are of the same weights and posts; damaged ones do not count."""
    found = {}
    for path in sorted((out / "scores").glob("metrics-*.json")):
        try:
            one = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(one, dict) and all(one.get(name) == value for name, value in identity.items()):
            found[str(one["split"])] = one
    return found


def metrics_of(split: str, predictions: Sequence[Prediction], types: Sequence[str], synthetic: bool) -> dict[str, Any]:
    """Strict and lenient scores over the posts that have gold labels; `synthetic` marks drawn parts."""
    labelled = [one for one in predictions if one.post.tags is not None]
    gold, predicted = [one.post.tags or () for one in labelled], [one.tags for one in labelled]
    return {
        "split": split,
        "n_posts": len(labelled),
        "strict": score(gold, predicted, types).to_json(),
        "lenient": score(gold, predicted, types, lenient=True).to_json(),
        "synthetic": synthetic,
    }


def write_split(folder: Path, split: str, predictions: Sequence[Prediction], metrics: dict[str, Any]) -> None:
    """metrics-SPLIT.json, predictions-SPLIT.jsonl and confusion-SPLIT.csv in `folder`."""
    lines = [inert_json(one.to_json()) for one in predictions]
    atomic.write_json(folder / f"metrics-{split}.json", metrics)
    atomic.write_text(folder / f"predictions-{split}.jsonl", "".join(line + "\n" for line in lines))
    atomic.write_text(folder / f"confusion-{split}.csv", confusion_rows(predictions))


def confusion_rows(predictions: Sequence[Prediction]) -> str:
    """CSV with a row a word, as `dvc plots` counts them: actual type, predicted type; words without either left out."""
    labelled = [one for one in predictions if one.post.tags is not None]
    pairs = confusion([one.post.tags or () for one in labelled], [one.tags for one in labelled])
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("actual", "predicted"))
    for pair, n in sorted(pairs.items()):
        if pair != ("O", "O"):
            writer.writerows([[guarded(name) for name in pair]] * n)
    return file.getvalue()

"""Score a run on splits of a dataset: predictions, metrics and confusion, as files that the report and DVC read."""

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cache import atomic, keys
from cache.tables import stream_posts
from model.objects import open_pack
from model.predict import Progress, Run
from schema.errors import DataError
from schema.labels import entities
from schema.prediction import Prediction
from schema.records import SPLITS
from schema.scores import Counts
from schema.text import guarded, inert_json

Tags = Sequence[str]
Metrics = dict[str, dict[str, Any]]  # by split
SCHEMA_VERSION = 2  # of the files below; 2 has predictions of schema version 2
UNLABELED = "remove the split from evaluate.splits, or label its posts"
SUMMARY = ("f1", "precision", "recall")  # what metrics.json holds of each split: DVC shows a column for each


def run(
    folder: Path,
    posts: Path,
    pack: Path | None,
    splits: Sequence[str],
    out: Path | None = None,
    *,
    required: Sequence[str] = (),
    images: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Metrics:
    """Predict and score those of `splits` that the dataset has, and `required`; returns the metrics by split.

    Writes `scores/`, `metrics.json` and `confusion.csv` (of the first split) below `out`, by default the run's folder.
    Earlier scores of other splits stay if they are of the same weights and posts. Raises DataError if a split in
    `required` has no labeled posts, if none of `splits` has any, or if run and dataset have no entity type in common.
    """
    out = out or folder
    trained, labels = Run.load(folder, device), stream_posts(posts)[1]
    mismatch = label_mismatch(trained.info.labels.types, labels.types, str(folder))
    opened = open_pack(trained.info.config, pack)
    predicted: dict[str, list[Prediction]] = {}
    for split in dict.fromkeys((*splits, *required)):
        split_posts = [post for post in stream_posts(posts)[0] if post.split == split]
        if any(post.tags is not None for post in split_posts):
            predicted[split] = trained.predict(split_posts, opened, progress, images)
    if missing := [split for split in required if split not in predicted] or ([] if predicted else splits):
        raise DataError(f"no labeled posts in {', '.join(missing)}", where=str(posts), todo=UNLABELED)
    types = list(dict.fromkeys((*trained.info.labels.types, *labels.types)))
    digests = {"weights": weights_digest(folder), "posts": keys.digest_file(posts)}
    identity: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **digests}
    extra = identity | ({"label_mismatch": mismatch} if mismatch else {})
    metrics = {}
    for split, predictions in predicted.items():
        labelled = [one for one in predictions if one.post.tags is not None]
        tags = [one.post.tags or () for one in labelled], [one.tags for one in labelled]
        metrics[split] = {
            "split": split,
            "n_posts": len(labelled),
            "strict": score(*tags, types).to_json(),
            "lenient": score(*tags, types, lenient=True).to_json(),
            "synthetic": trained.info.synthetic,  # whether it reads objects from parts that were trained on drawings
            **extra,
        }
    _write_scores(out, earlier(out, identity), predicted, metrics)
    return metrics


def label_mismatch(run_types: Sequence[str], dataset_types: Sequence[str], where: str) -> str:
    """A warning of entity types that only the run or only the dataset has; DataError if they have none in common."""
    only_run, only_dataset = (sorted({*a} - {*b}) for a, b in ((run_types, dataset_types), (dataset_types, run_types)))
    if not {*run_types} & {*dataset_types}:
        found = f"run: {', '.join(only_run)}; dataset: {', '.join(only_dataset)}"
        todo = "give the dataset the run's types (source.labels, source.aliases), or train a run on this dataset"
        raise DataError("the run and the dataset have no entity type in common", where=where, found=found, todo=todo)
    sides = [(only_run, "only the run predicts"), (only_dataset, "only the dataset has")]
    return "; ".join(f"{text} {', '.join(types)}" for types, text in sides if types)


def _write_scores(out: Path, scored: Metrics, predicted: dict[str, list[Prediction]], metrics: Metrics) -> None:
    """Publish `scores/`, `metrics.json` and `confusion.csv`; `scored` are metrics of splits scored earlier."""
    with atomic.folder(out / "scores") as new:
        for split in scored.keys() - metrics.keys():
            for path in (out / "scores").glob(f"*-{split}.*"):
                shutil.copy(path, new / path.name)
        for split, predictions in predicted.items():
            lines = [inert_json(prediction.to_json()) + "\n" for prediction in predictions]
            atomic.write_json(new / f"metrics-{split}.json", metrics[split])
            atomic.write_text(new / f"predictions-{split}.jsonl", "".join(lines))
            atomic.write_text(new / f"confusion-{split}.csv", confusion_rows(predictions))
    scored = scored | metrics
    summary = {split: {name: values["strict"]["micro"][name] for name in SUMMARY} for split, values in scored.items()}
    first = next(split for split in SPLITS if split in scored)
    atomic.write_json(out / "metrics.json", summary)
    atomic.write_text(out / "confusion.csv", (out / "scores" / f"confusion-{first}.csv").read_text(encoding="utf-8"))


def weights_digest(folder: Path) -> str:
    """sha256 of a run's weights."""
    return keys.digest_file((folder / "model" if (folder / "model").is_dir() else folder) / "weights.safetensors")


def earlier(out: Path, identity: dict[str, Any]) -> Metrics:
    """Metrics in `out` that are of the same weights and posts; damaged ones do not count."""
    metrics = {}
    for path in sorted((out / "scores").glob("metrics-*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(values, dict) and identity.items() <= values.items():
            metrics[str(values["split"])] = values
    return metrics


def confusion_rows(predictions: Sequence[Prediction]) -> str:
    """CSV with one row per word, as `dvc plots` counts them: actual type, predicted type; no words outside both."""
    labelled = [(one.post.tags, one.tags) for one in predictions if one.post.tags is not None]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("actual", "predicted"))
    for pair, n in sorted(confusion(labelled).items()):
        if pair != ("O", "O"):
            writer.writerows([[guarded(name) for name in pair]] * n)
    return file.getvalue()


class Scores(NamedTuple):
    """Micro-averaged counts and those of each type, in the label set's order."""

    micro: Counts
    types: dict[str, Counts]

    def to_json(self) -> dict[str, Any]:
        return {"micro": self.micro.to_json(), "types": {name: counts.to_json() for name, counts in self.types.items()}}


def score(gold: Sequence[Tags], predicted: Sequence[Tags], types: Sequence[str], *, lenient: bool = False) -> Scores:
    """Entity scores over posts with IOB2 tags; an entity is correct if its words and type agree.

    Strict: only `B-` opens an entity, on both sides. Lenient: an orphan `I-` opens one too, as in seqeval's default.
    """
    counts = {name: Counts() for name in types}
    for number, pair in enumerate(zip(gold, predicted, strict=True)):
        if len(pair[0]) != len(pair[1]):
            found = f"{len(pair[0])} and {len(pair[1])}"
            raise DataError("gold and predicted tags differ in number", where=f"post {number}", found=found)
        in_gold, in_predicted = (set(entities(tags, lenient=lenient)) for tags in pair)
        for entity in in_gold | in_predicted:
            right = entity in in_gold, entity in in_predicted
            counts[entity.type] += Counts(n_gold=right[0], n_predicted=right[1], n_correct=all(right))
    return Scores(sum(counts.values(), Counts()), counts)


def confusion(posts: Iterable[tuple[Tags, Tags]]) -> Counter[tuple[str, str]]:
    """How many words of each actual type (`O` for none) got each predicted type; posts are (gold, predicted) tags."""
    return Counter((a[2:] or "O", b[2:] or "O") for tags in posts for a, b in zip(*tags, strict=True))

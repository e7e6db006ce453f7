"""A run folder as the report reads it: configuration, learning curves, scores and predictions, each checked once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.run_files import read_json, read_object
from schema.errors import DataError, RunError
from schema.prediction import Prediction

SCORES = ("precision", "recall", "f1", "n_gold", "n_predicted", "n_correct")  # of each type, and of all together
SPLIT_ORDER = ("test", "dev", "predict", "train")  # most interesting first
EVALUATE = "score the run again (`fmit evaluate`)"


@dataclass(frozen=True)
class Run:
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
        types = dict.fromkeys(label_words(self.config))
        for scores in self.metrics.values():
            types |= dict.fromkeys(scores["strict"]["types"])
        for predictions in self.predictions.values():
            for one in predictions:
                types |= dict.fromkeys(entity.type for entity in (*(one.gold or ()), *one.predicted))
        return tuple(types)


def read_run(folder: Path) -> Run:
    """Read what a report shows of a run folder; raises RunError if a file is missing or damaged."""
    config = read_object(folder / "model" / "config.json", "train and evaluate the run")
    curves = _curves(folder / "curves.json") if (folder / "curves.json").exists() else []
    metrics, predictions = {}, {}
    for split in SPLIT_ORDER:
        if (path := folder / "scores" / f"metrics-{split}.json").exists():
            metrics[split] = read_metrics(path)
        if (path := folder / "scores" / f"predictions-{split}.jsonl").exists():
            predictions[split] = list(read_predictions(path))
    if not metrics and not predictions:
        raise RunError("the run has no scores", where=str(folder), todo="run `fmit evaluate` first")
    synthetic = any(scores.get("synthetic") for scores in metrics.values()) or _is_synthetic(config)
    return Run(folder.resolve().name, config, tuple(curves), metrics, predictions, synthetic)


def read_predictions(path: Path) -> Iterator[Prediction]:
    """The predictions of a file, one at a time; raises RunError with file:line."""
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
        readings = [value["strict"], *([value["lenient"]] if value.get("lenient") else [])]
        for scores in [scores for reading in readings for scores in (reading["micro"], *reading["types"].values())]:
            for name in SCORES:
                float(scores[name])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found = f"{type(error).__name__} {error}"
        raise RunError("not a file of scores", where=str(path), found=found, todo=EVALUATE) from None
    return value


def label_words(config: Mapping[str, Any]) -> dict[str, str]:
    """Entity type -> general word in the run's order, from the pairs in its configuration; empty if it has none."""
    pairs, _ = config.get("labels") or ((), ())
    return {str(name): str(word) for name, word in pairs}


def _curves(path: Path) -> list[Mapping[str, Any]]:
    value = read_json(path, "train the run again")
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise RunError("not a list of epochs", where=str(path), todo="train the run again")
    return value


def _is_synthetic(value: Any) -> bool:
    """Whether `synthetic: true` occurs anywhere in the run's configuration: it includes the pack's own mark."""
    if isinstance(value, Mapping):
        return value.get("synthetic") is True or any(map(_is_synthetic, value.values()))
    return isinstance(value, list) and any(map(_is_synthetic, value))

"""A run folder as the report reads it: scores, curves, and predictions line by line, each checked once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.run_files import read_json, read_object
from schema.errors import DataError, RunError
from schema.records import SPLITS, Entity, Span

FIGURES = ("precision", "recall", "f1", "n_gold", "n_predicted", "n_correct")  # of a type, or of all
AGAIN = "remove the run's scores/ and score it again (`fmit evaluate`, `fmit tables`)"
SPLIT_ORDER = ("test", "dev", "predict", "train")  # what a reader asks for first


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a post; `width` and `height` are pixels after EXIF rotation, 0 unless `state` is "ok"."""

    name: str
    digest: str
    width: int
    height: int
    state: str


@dataclass(frozen=True, slots=True)
class Predicted:
    """A predicted entity; `confidence` is its marginal probability, None where the approach gives none."""

    entity: Entity
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Thing:
    """An object of the lattice; `xyxy` are pixels of picture `image_index`, None for a post without a picture."""

    source: str
    text: str
    span: Span | None
    image_index: int
    xyxy: tuple[int, int, int, int] | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Line:
    """One post of a predictions file; `gold` is None where the post came without labels."""

    id: str
    split: str
    words: tuple[str, ...]
    pictures: tuple[Picture, ...]
    gold: tuple[Entity, ...] | None
    predicted: tuple[Predicted, ...]
    things: tuple[Thing, ...]

    @property
    def entities(self) -> list[Entity]:
        return [found.entity for found in self.predicted]


@dataclass(frozen=True)
class Run:
    """What a run folder holds; `metrics` and `lines` by split, in the order of `SPLIT_ORDER`."""

    name: str
    config: Mapping[str, Any]
    curves: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, Mapping[str, Any]]
    lines: Mapping[str, list[Line]]
    synthetic: bool

    @property
    def types(self) -> tuple[str, ...]:
        """Entity types in the label set's order, then those that only scores or posts name."""
        found = dict.fromkeys(label_words(self.config))
        for scores in self.metrics.values():
            found |= dict.fromkeys(scores["strict"]["types"])
        for lines in self.lines.values():
            for line in lines:
                found |= dict.fromkeys(entity.type for entity in [*(line.gold or ()), *line.entities])
        return tuple(found)


def read_run(folder: Path) -> Run:
    """Everything that a report shows of `folder`; raises RunError for what is missing or does not keep its contract."""
    config = read_object(folder / "model" / "config.json", "train and evaluate the run")
    curves = _curves(folder / "curves.json") if (folder / "curves.json").exists() else []
    metrics = {
        split: read_metrics(path) for split in SPLIT_ORDER if (path := _scores(folder, split, "metrics")).exists()
    }
    lines = {
        split: list(read_predictions(path))
        for split in SPLIT_ORDER
        if (path := _scores(folder, split, "predictions")).exists()
    }
    if not metrics and not lines:
        raise RunError("no scores in the run", where=str(folder), todo="run `fmit evaluate` first")
    synthetic = any(scores.get("synthetic") for scores in metrics.values()) or _is_synthetic(config)
    return Run(folder.resolve().name, config, tuple(curves), metrics, lines, synthetic)


def read_predictions(path: Path) -> Iterator[Line]:
    """The posts of a predictions file, one at a time; raises RunError with file:line."""
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            where = f"{path}:{number}"
            try:
                yield parse_line(json.loads(text))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                found = f"{type(error).__name__} {error}"
                raise RunError("not a line of predictions", where=where, found=found, todo=AGAIN) from error
            except DataError as error:
                raise RunError("not a line of predictions", where=where, found=str(error), todo=AGAIN) from error


def _scores(folder: Path, split: str, kind: str) -> Path:
    return folder / "scores" / f"{kind}-{split}.{'json' if kind == 'metrics' else 'jsonl'}"


def _curves(path: Path) -> list[Mapping[str, Any]]:
    value = read_json(path, "train the run again")
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise RunError("no list of epochs", where=str(path), todo="train the run again")
    return value


def read_metrics(path: Path) -> dict[str, Any]:
    """Scores of a split; what pages and tables read of them is there. Raises RunError."""
    value = read_object(path, AGAIN)
    try:
        readings = [value["strict"], *([value["lenient"]] if value.get("lenient") else [])]
        for scores in [one for reading in readings for one in (reading["micro"], *reading["types"].values())]:
            for name in FIGURES:
                float(scores[name])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found = f"{type(error).__name__} {error}"
        raise RunError("no scores", where=str(path), found=found, todo=AGAIN) from None
    return value


def parse_line(value: Mapping[str, Any]) -> Line:
    """A line of predictions, checked; raises DataError, or KeyError and the like for what is not there."""
    words = tuple(str(word) for word in value["words"])
    if value["split"] not in SPLITS:
        raise DataError("unknown split", found=str(value["split"]))
    gold = value.get("gold")
    line = Line(
        str(value.get("post_id", value["id"])),
        value["split"],
        words,
        tuple(_picture(image) for image in value.get("images") or ()),
        None if gold is None else tuple(_entity(found, len(words)) for found in gold),
        tuple(Predicted(_entity(found, len(words)), _number(found.get("confidence"))) for found in value["entities"]),
        tuple(_thing(found, len(words)) for found in value.get("objects") or ()),
    )
    for thing in line.things:
        if thing.xyxy is not None and thing.image_index >= len(line.pictures):
            raise DataError("an object on a picture that the post has not", found=str(thing.image_index))
    return line


def _picture(value: Mapping[str, Any]) -> Picture:
    size = int(value.get("width") or 0), int(value.get("height") or 0)
    return Picture(str(value["name"]), str(value.get("digest") or ""), *size, str(value.get("state", "ok")))


def _entity(value: Mapping[str, Any], n_words: int) -> Entity:
    return Entity(_span(value, n_words), str(value["type"]))


def _thing(value: Mapping[str, Any], n_words: int) -> Thing:
    corners = [value.get(side) for side in ("x0", "y0", "x1", "y1")]
    xyxy = None if None in corners else tuple(int(corner) for corner in corners if corner is not None)
    if xyxy is not None and not (0 <= xyxy[0] < xyxy[2] and 0 <= xyxy[1] < xyxy[3]):
        raise DataError("a box needs 0 <= x0 < x1 and 0 <= y0 < y1", found=str(xyxy))
    span = None if value.get("start") is None else _span(value, n_words)
    index = int(value.get("image_index") or 0)
    return Thing(str(value["source"]), str(value["text"]), span, index, xyxy, _number(value.get("score")))  # type: ignore[arg-type]


def _span(value: Mapping[str, Any], n_words: int) -> Span:
    span = Span(int(value["start"]), int(value["end"]))
    if span.end > n_words:
        raise DataError(f"a span beyond the {n_words} words", found=f"[{span.start}, {span.end})")
    return span


def _number(value: Any) -> float | None:
    """A finite number, or None: NaN and infinity are no JSON."""
    return float(value) if value is not None and math.isfinite(float(value)) else None


def label_words(config: Mapping[str, Any]) -> dict[str, str]:
    """Entity type -> general word, in the run's order; empty where the configuration names no labels.

    Runs keep pairs, since their order numbers the tags; a label set's own JSON (`{"labels": {...}}`) is read too.
    """
    labels = config.get("labels") or {}
    if isinstance(labels, Mapping):
        labels = list(labels.get("labels", labels).items()), ()
    return {str(name): str(word) for name, word in labels[0]}


def _is_synthetic(value: Any) -> bool:
    """Whether any `synthetic: true` stands in the run's configuration: the pack's own mark travels in there."""
    if isinstance(value, Mapping):
        return value.get("synthetic") is True or any(_is_synthetic(found) for found in value.values())
    return isinstance(value, list) and any(_is_synthetic(found) for found in value)

"""Phrase grounding on its own: how well a grounder's boxes fit gold boxes of phrases, and what its scores tell.

Gold boxes come from a JSONL file (one image a line: `image`, `phrases` with `text` and `box`, or `boxes`; null where
the image does not show it) or from Twitter-GMNER's XML files, which list the entities that an image shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report.grounding import Corners, iou, read_annotations
from schema.errors import DataError

MIN_IOU = 0.5  # from which a box is right
CENTRE_SHARE = 0.5  # of each side of the image that the centre box covers


@dataclass(frozen=True, slots=True)
class GoldPhrase:
    """A phrase of an image's post, and its boxes; none where the image does not show it."""

    image: str
    text: str
    boxes: tuple[Corners, ...]


@dataclass(frozen=True, slots=True)
class Quality:
    """`accuracy`: share of the visible phrases with a right box. `average_precision` of the score at telling visible
    phrases from others; None where all are visible.
    """

    accuracy: float
    n_right: int
    average_precision: float | None


def read_gold(path: Path, sizes: Mapping[str, tuple[int, int]]) -> list[GoldPhrase]:
    """The phrases of a JSONL file, or of a folder of XML files named like their images.

    `sizes`: width and height of each image that can be read. Boxes for another size of an image are scaled. Raises
    DataError for a phrase whose image is not among them.
    """
    found = list(_xml(path, sizes) if path.is_dir() else _jsonl(path, sizes))
    if not any(phrase.boxes for phrase in found):
        raise DataError("no phrase has a box", where=str(path), todo="give boxes as JSONL, or a folder of XML files")
    return found


def evaluate(gold: Sequence[GoldPhrase], grounded: Sequence[tuple[Corners, float]]) -> Quality:
    """The quality of one box and its score a phrase, in order."""
    visible = [bool(phrase.boxes) for phrase in gold]
    right = sum(is_right(box, phrase) for phrase, (box, _) in zip(gold, grounded, strict=True))
    precision = None if all(visible) else average_precision(visible, [score for _, score in grounded])
    return Quality(right / sum(visible), right, precision)


def is_right(box: Corners, phrase: GoldPhrase) -> bool:
    """Whether a box overlaps one of the phrase's by MIN_IOU."""
    return any(iou(box, gold) >= MIN_IOU for gold in phrase.boxes)


def ceiling(gold: Sequence[GoldPhrase], candidates: Mapping[str, Sequence[Corners]]) -> float:
    """Share of the visible phrases that some candidate box of their image fits."""
    visible = [phrase for phrase in gold if phrase.boxes]
    return sum(any(is_right(box, phrase) for box in candidates[phrase.image]) for phrase in visible) / len(visible)


def average_precision(positive: Sequence[bool], scores: Sequence[float]) -> float:
    """The sum over distinct scores, from the highest, of the recall gained there times the precision; with equal
    scores only it is the share of positives.
    """
    n_positive, n_seen, total = 0, 0, 0.0
    for score in sorted(set(scores), reverse=True):
        equal = [one for one, other in zip(positive, scores, strict=True) if other == score]
        n_seen, gained = n_seen + len(equal), sum(equal)
        n_positive += gained
        total += gained * n_positive / n_seen
    return total / n_positive if n_positive else 0.0


def centre_box(width: int, height: int) -> Corners:
    """The middle of an image: half of each side."""
    x, y = width * (1 - CENTRE_SHARE) / 2, height * (1 - CENTRE_SHARE) / 2
    return x, y, width - x, height - y


def _jsonl(path: Path, sizes: Mapping[str, tuple[int, int]]) -> Iterable[GoldPhrase]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
                phrases = [(one["text"], _boxes(one)) for one in row["phrases"]]
                name, size = str(row["image"]), (row.get("width", 0), row.get("height", 0))
            except (KeyError, TypeError, ValueError) as error:
                todo = 'a line is {"image": NAME, "phrases": [{"text": TEXT, "box": [x0, y0, x1, y1] or null}]}'
                raise DataError("not gold boxes", where=f"{path}:{number}", found=str(error), todo=todo) from None
            for text, boxes in phrases:
                yield GoldPhrase(name, text, _scaled(boxes, size, _size(name, sizes, f"{path}:{number}")))


def _boxes(phrase: dict[str, Any]) -> tuple[Corners, ...]:
    given = phrase["boxes"] if "boxes" in phrase else [phrase["box"]]
    return tuple(_corners(box) for box in given if box is not None)


def _corners(box: Sequence[float]) -> Corners:
    x0, y0, x1, y1 = (float(value) for value in box)
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"an empty box {box}")
    return x0, y0, x1, y1


def _xml(folder: Path, sizes: Mapping[str, tuple[int, int]]) -> Iterable[GoldPhrase]:
    by_stem = {Path(name).stem: name for name in sizes}
    for path in sorted(folder.glob("*.xml")):
        marked = read_annotations(path)
        for key, boxes in marked.boxes.items():
            name = by_stem.get(path.stem, path.stem)
            scaled = _scaled(boxes, (marked.width, marked.height), _size(name, sizes, str(path)))
            yield GoldPhrase(name, marked.names[key], scaled)


def _size(name: str, sizes: Mapping[str, tuple[int, int]], where: str) -> tuple[int, int]:
    if name not in sizes:
        raise DataError(f"no image {name}", where=where, todo="give the folder of the images with --images")
    return sizes[name]


def _scaled(boxes: Sequence[Corners], marked: tuple[int, int], size: tuple[int, int]) -> tuple[Corners, ...]:
    """Boxes for an image of the size `marked` (0: unknown), for the same image of another size."""
    x, y = (new / old if old else 1.0 for old, new in zip(marked, size, strict=True))
    return tuple((x0 * x, y0 * y, x1 * x, y1 * y) for x0, y0, x1, y1 in boxes)

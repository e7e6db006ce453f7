"""Grounding quality: of a run's entities with their boxes (GMNER, Yu et al. 2023), or of a grounder without a run.

An entity's box is the grounder's for the noun phrase that fits its words best; it is not evidence that the tagger used
it. A box is correct if its IoU with a gold box is at least 0.5; an entity that no image shows needs to have no box.

Gold boxes have the format of Twitter-GMNER: an XML file per image in the format of Pascal VOC, with `size` (width,
height) and `object` elements (name: the entity's words; bndbox: xmin, ymin, xmax, ymax). Those of phrases may also be
in a JSONL file: an image per line, with `image`, and `phrases` with `text` and `box`, or `boxes`; null: not shown.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as Tree

from report.layout import span_text
from schema.errors import DataError
from schema.prediction import Prediction
from schema.records import Entity, Region, Span
from schema.scores import Counts

MAX_BYTES = 1_000_000  # of an XML file: real ones have a few kilobytes
REFUSED = (b"<!DOCTYPE", b"<!ENTITY", b"\0")  # a null byte: UTF-16 would hide the other two
MIN_IOU = 0.5  # of a correct box
SCORES = ("MNER", "EEG", "GMNER")  # words and type; words and box; words, type and box
JSONL = 'a line is {"image": NAME, "phrases": [{"text": TEXT, "box": [x0, y0, x1, y1] or null}]}'

Corners = tuple[float, float, float, float]  # x0, y0, x1, y1
Boxes = tuple[Corners, ...]  # (): the image does not show it
GoldBoxes = Mapping[tuple[str, Entity], Boxes]  # by post id and entity
Size = tuple[int, int]  # width, height; 0: not given


class Annotations(NamedTuple):
    """An XML file: boxes and names as written, by `name_key`; the image's size; number of objects without a name."""

    boxes: dict[str, Boxes]
    names: dict[str, str]
    size: Size
    n_nameless: int


@dataclass
class Matched:
    boxes: dict[tuple[str, Entity], Boxes] = field(default_factory=dict)
    n_files: int = 0
    n_unmatched: int = 0  # names that are not an entity of their post
    n_nameless: int = 0  # objects without a name
    n_scaled: int = 0  # files whose image size differs from that of the post's image, so their boxes were scaled


def read_annotations(path: Path) -> Annotations:
    """Read one XML file; raises DataError. Document types are rejected, because their entities can expand endlessly."""
    data = path.read_bytes()
    if len(data) > MAX_BYTES or any(mark in data for mark in REFUSED):
        what, todo = "the file is too large or has a document type", "only plain annotations are supported"
        raise DataError(what, where=str(path), todo=todo)
    try:
        root = Tree.fromstring(data)
    except Tree.ParseError as error:
        raise DataError("not XML", where=str(path), found=str(error)) from None
    texts = [root.findtext(f"size/{side}") or "0" for side in ("width", "height")]
    try:
        width, height = (int(float(text)) for text in texts)
    except (ValueError, OverflowError):
        raise DataError("the size is not two numbers", where=str(path), found=" and ".join(texts)) from None
    boxes: dict[str, Boxes] = {}
    names: dict[str, str] = {}
    objects = [(element.findtext("name") or "", element) for element in root.iter("object")]
    for name, element in [(name, element) for name, element in objects if name_key(name)]:
        names.setdefault(name_key(name), " ".join(name.split()))
        corners = [_xml_box(box, path) for box in element.iter("bndbox")]
        boxes[name_key(name)] = (*boxes.get(name_key(name), ()), *corners)
    return Annotations(boxes, names, (width, height), sum(not name_key(name) for name, _ in objects))


def _xml_box(box: Tree.Element, path: Path) -> Corners:
    try:
        x0, y0, x1, y1 = (float(box.findtext(name) or "") for name in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        raise DataError("a box needs four numbers", where=str(path)) from None
    if not (x0 <= x1 and y0 <= y1):
        raise DataError("a box needs xmin <= xmax and ymin <= ymax", where=str(path), found=f"{x0}, {y0}, {x1}, {y1}")
    return x0, y0, x1, y1


def name_key(name: str) -> str:
    """A key that is equal for names that differ only in spaces and case."""
    return re.sub(r"\s+", "", name).casefold()


def match(predictions: Sequence[Prediction], folder: Path) -> Matched:
    """Gold boxes of the posts' gold entities from `folder/STEM.xml`; STEM: the first image's name, or the post's id."""
    matched = Matched()
    for prediction in predictions:
        post, image = prediction.post, next(iter(prediction.post.images), None)
        stems = [*([Path(image.name).stem] if image else []), post.id]
        paths = [folder / f"{stem}.xml" for stem in stems if stem not in ("", ".", "..") and "/" not in stem]
        path = next((path for path in paths if path.is_file()), None)
        annotations = read_annotations(path) if path else Annotations({}, {}, (0, 0), 0)
        size = (image.width, image.height) if image and image.ok else (0, 0)
        keys = {entity: name_key(span_text(post.words, entity.span)) for entity in prediction.gold or ()}
        for entity, key in keys.items():
            matched.boxes[post.id, entity] = _scaled(annotations.boxes.get(key, ()), annotations.size, size)
        matched.n_files += path is not None
        matched.n_unmatched += len(set(annotations.boxes) - set(keys.values()))
        matched.n_nameless += annotations.n_nameless
        matched.n_scaled += 0 not in (*annotations.size, *size) and annotations.size != size
    if not matched.n_files:
        raise DataError("no gold boxes of these posts", where=str(folder), todo="give NAME.xml for an image NAME.jpg")
    return matched


def _scaled(boxes: Sequence[Corners], old: Size, new: Size) -> Boxes:
    """Boxes scaled from an image of size `old` to the same image in another size; unchanged if a size is unknown."""
    x, y = (1.0, 1.0) if 0 in (*old, *new) else (new[0] / old[0], new[1] / old[1])
    return tuple((x0 * x, y0 * y, x1 * x, y1 * y) for x0, y0, x1, y1 in boxes)


def score(predictions: Sequence[Prediction], gold: GoldBoxes, min_score: float | None = None) -> dict[str, Counts]:
    """Each of `SCORES` over labeled posts; boxes whose grounding score is below `min_score` are ignored."""
    n_gold = sum(len(set(prediction.gold or ())) for prediction in predictions)
    pairs = [(prediction, entity) for prediction in predictions for entity in set(prediction.predicted)]
    results = [is_correct(*pair, gold, min_score) for pair in pairs]
    return {name: Counts(n_gold, len(results), sum(result[name] for result in results)) for name in SCORES}


def is_correct(
    prediction: Prediction, entity: Entity, gold: GoldBoxes, min_score: float | None = None
) -> dict[str, bool]:
    """Whether a predicted entity is correct by each of `SCORES`."""
    match = next((other for other in prediction.gold or () if other.span == entity.span), None)
    if match is None:
        return dict.fromkeys(SCORES, False)
    boxes, region = gold.get((prediction.post.id, match), ()), best_region(prediction, entity.span, min_score)
    is_box_correct = fits(region.box.xyxy, boxes) if region and region.box else not boxes
    same_type = match.type == entity.type
    return {"MNER": same_type, "EEG": is_box_correct, "GMNER": same_type and is_box_correct}


def best_region(prediction: Prediction, span: Span, min_score: float | None = None) -> Region | None:
    """The phrase region that fits a span: highest overlap of words (IoU), then the higher score, then the first."""
    fitting: list[tuple[float, float, Region]] = []
    for region in prediction.objects:
        if region.source == "phrase" and region.box and region.span and region.span.overlaps(span):
            union = max(region.span.end, span.end) - min(region.span.start, span.start)
            common = min(region.span.end, span.end) - max(region.span.start, span.start)
            if min_score is None or region.score >= min_score:
                fitting.append((common / union, region.score, region))
    return max(fitting, key=lambda row: row[:2], default=(0, 0, None))[2]


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two `x0, y0, x1, y1`; 0 if both are empty."""
    width, height = (max(0.0, min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis])) for axis in (0, 1))
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - width * height
    return width * height / union if union > 0 else 0.0


def fits(box: Sequence[float], gold: Boxes) -> bool:
    """Whether a box overlaps one of the gold boxes by MIN_IOU."""
    return any(iou(box, other) >= MIN_IOU for other in gold)


class GoldPhrase(NamedTuple):
    """A phrase of an image's post, and its boxes; none if the image does not show it."""

    image: str
    text: str
    boxes: Boxes


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a grounder's boxes fit visible phrases, and how well its scores separate these from the others."""

    accuracy: float  # share of the visible phrases with a correct box
    n_correct: int
    average_precision: float | None  # None if all phrases are visible


def read_gold(path: Path, sizes: Mapping[str, Size]) -> list[GoldPhrase]:
    """The phrases of a JSONL file, or of a folder of XML files named like their images; `sizes` are those of images."""
    phrases = []
    for image, text, boxes, size, where in _from_xml(path, sizes) if path.is_dir() else _from_jsonl(path):
        if image not in sizes:
            raise DataError(f"no image {image}", where=where, todo="give the image folder with --images")
        phrases.append(GoldPhrase(image, text, _scaled(boxes, size, sizes[image])))
    if not any(phrase.boxes for phrase in phrases):
        raise DataError("no phrase has a box", where=str(path), todo="give boxes as JSONL, or a folder of XML files")
    return phrases


Marked = tuple[str, str, Boxes, Size, str]  # image, text, boxes for an image of that size, file and line


def _from_jsonl(path: Path) -> Iterator[Marked]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path}:{number}"
        try:
            row: dict[str, Any] = json.loads(line) if line.strip() else {"image": "", "phrases": []}
            image, size = str(row["image"]), (int(row.get("width", 0)), int(row.get("height", 0)))
            for phrase in row["phrases"]:
                boxes = phrase["boxes"] if "boxes" in phrase else [phrase["box"]]
                yield image, phrase["text"], tuple(_json_box(box) for box in boxes if box is not None), size, where
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("not gold boxes", where=where, found=str(error), todo=JSONL) from None


def _json_box(box: Sequence[float]) -> Corners:
    x0, y0, x1, y1 = (float(value) for value in box)
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"an empty box {box}")
    return x0, y0, x1, y1


def _from_xml(folder: Path, sizes: Mapping[str, Size]) -> Iterator[Marked]:
    by_stem = {Path(name).stem: name for name in sizes}
    for path in sorted(folder.glob("*.xml")):
        annotations = read_annotations(path)
        for key, boxes in annotations.boxes.items():
            image = by_stem.get(path.stem, path.stem)
            yield image, annotations.names[key], boxes, annotations.size, str(path)


def evaluate(gold: Sequence[GoldPhrase], grounded: Sequence[tuple[Corners, float]]) -> Quality:
    """The quality of one box and its score for each phrase, in order."""
    visible = [bool(phrase.boxes) for phrase in gold]
    n_correct = sum(fits(box, phrase.boxes) for phrase, (box, _) in zip(gold, grounded, strict=True))
    precision = None if all(visible) else average_precision(visible, [score for _, score in grounded])
    return Quality(n_correct / sum(visible), n_correct, precision)


def ceiling(gold: Sequence[GoldPhrase], candidates: Mapping[str, Sequence[Corners]]) -> float:
    """Share of the visible phrases that some candidate box of their image fits."""
    visible = [phrase for phrase in gold if phrase.boxes]
    return sum(any(fits(box, phrase.boxes) for box in candidates[phrase.image]) for phrase in visible) / len(visible)


def average_precision(positive: Sequence[bool], scores: Sequence[float]) -> float:
    """The sum over distinct scores, from the highest, of the recall gained there times the precision."""
    n_positive, total = 0, 0.0
    for score in sorted(set(scores), reverse=True):
        ranked = [is_positive for is_positive, other in zip(positive, scores, strict=True) if other >= score]
        total += (sum(ranked) - n_positive) * sum(ranked) / len(ranked)
        n_positive = sum(ranked)
    return total / n_positive if n_positive else 0.0


def centre_box(width: int, height: int) -> Corners:
    """The middle half of each side of an image."""
    return width / 4, height / 4, width * 3 / 4, height * 3 / 4

"""Grounding quality: are an entity's words, type and box right? The three scores of GMNER (Yu et al. 2023).

An entity's box is the grounder's for the noun phrase that fits its words best; it is no evidence that the tagger used
it. A box is right if its IoU with one of the entity's gold boxes is at least 0.5; an entity that the image does not
show is right only without a box.

Gold boxes are read as Twitter-GMNER has them: an XML file per image in the format of Pascal VOC, with `size` (width,
height) and `object` elements (name: the entity's words; bndbox: xmin, ymin, xmax, ymax).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as Tree

from schema.errors import DataError
from schema.prediction import Prediction
from schema.records import Entity, Region, Span
from schema.scores import Counts

MAX_BYTES = 1_000_000  # of an XML file: real ones have a few kilobytes
REFUSED = (b"<!DOCTYPE", b"<!ENTITY", b"\0")  # a null byte: UTF-16 would hide the other two
HIT_IOU = 0.5
SCORES = ("MNER", "EEG", "GMNER")  # words and type; words and box; words, type and box

Corners = tuple[float, float, float, float]  # x0, y0, x1, y1
GoldBoxes = Mapping[
    tuple[str, Entity], tuple[Corners, ...]
]  # (post id, entity) -> boxes; (): the image does not show it


@dataclass(frozen=True)
class Annotations:
    """An XML file: boxes by name, the image's size (0: not given), and the number of objects without a name."""

    boxes: Mapping[str, tuple[Corners, ...]]
    width: int = 0
    height: int = 0
    n_nameless: int = 0
    names: Mapping[str, str] = field(default_factory=dict, compare=False)  # as written, by their keys in `boxes`


@dataclass(frozen=True)
class Matched:
    """The gold boxes of posts, from `n_files` files.

    `n_unmatched` names are not an entity of their post; `n_scaled` files give another size than the post's image has,
    so their boxes were scaled.
    """

    boxes: GoldBoxes
    n_files: int
    n_unmatched: int
    n_nameless: int
    n_scaled: int


def read_annotations(path: Path) -> Annotations:
    """Read one XML file; raises DataError. A document type is refused, since its entities can expand without bound."""
    data = path.read_bytes()
    if len(data) > MAX_BYTES or any(mark in data for mark in REFUSED):
        raise DataError("too large, or with a document type", where=str(path), todo="only plain annotations are read")
    try:
        root = Tree.fromstring(data)
    except Tree.ParseError as error:
        raise DataError("not XML", where=str(path), found=str(error)) from None
    boxes: dict[str, list[Corners]] = {}
    names: dict[str, str] = {}
    n_nameless = 0
    for element in root.iter("object"):
        text = element.findtext("name") or ""
        name = name_key(text)
        if name:
            names.setdefault(name, " ".join(text.split()))
            boxes.setdefault(name, []).extend(_corners(box, path) for box in element.iter("bndbox"))
        n_nameless += not name
    boxes_by_name = {name: tuple(corners) for name, corners in boxes.items()}
    return Annotations(boxes_by_name, *_size(root, path), n_nameless, names)


def match(predictions: Sequence[Prediction], folder: Path) -> Matched:
    """Gold boxes of the posts' gold entities from `folder/STEM.xml`; STEM is the first image's name or the post's id.

    A name matches an entity if they agree apart from spaces and case; entities of the same name share its boxes.
    Raises DataError if no post has a file.
    """
    boxes: dict[tuple[str, Entity], tuple[Corners, ...]] = {}
    n_files = n_unmatched = n_nameless = n_scaled = 0
    for prediction in predictions:
        post = prediction.post
        path = _file(prediction, folder)
        annotations = read_annotations(path) if path else Annotations({})
        scale = _scale(prediction, annotations)
        names = {one: name_key(" ".join(post.words[one.span.start : one.span.end])) for one in prediction.gold or ()}
        for entity, name in names.items():
            boxes[post.id, entity] = tuple(_scaled(box, scale) for box in annotations.boxes.get(name, ()))
        n_files += path is not None
        n_unmatched += len(set(annotations.boxes) - set(names.values()))
        n_nameless += annotations.n_nameless
        n_scaled += scale != (1.0, 1.0)
    if not n_files:
        raise DataError("no gold boxes of these posts", where=str(folder), todo="give NAME.xml for an image NAME.jpg")
    return Matched(boxes, n_files, n_unmatched, n_nameless, n_scaled)


def name_key(name: str) -> str:
    """Equal for names that differ only in spaces and case."""
    return re.sub(r"\s+", "", name).casefold()


def score(predictions: Sequence[Prediction], gold: GoldBoxes, min_score: float | None = None) -> dict[str, Counts]:
    """Each of `SCORES` over labelled posts; boxes whose grounding score is below `min_score` are ignored."""
    n_gold = n_predicted = 0
    n_correct = dict.fromkeys(SCORES, 0)
    for prediction in predictions:
        n_gold += len(set(prediction.gold or ()))
        for entity in set(prediction.predicted):
            n_predicted += 1
            correct = is_correct(prediction, entity, gold, min_score)
            for name in SCORES:
                n_correct[name] += correct[name]
    return {name: Counts(n_gold, n_predicted, n_correct[name]) for name in SCORES}


def is_correct(
    prediction: Prediction, entity: Entity, gold: GoldBoxes, min_score: float | None = None
) -> dict[str, bool]:
    """Whether a predicted entity is correct by each of `SCORES`."""
    match = next((one for one in prediction.gold or () if one.span == entity.span), None)
    if match is None:
        return dict.fromkeys(SCORES, False)
    boxes, region = gold.get((prediction.post.id, match), ()), best_region(prediction, entity.span, min_score)
    hit = any(iou(region.box.xyxy, box) >= HIT_IOU for box in boxes) if region and region.box else not boxes
    same = match.type == entity.type
    return {"MNER": same, "EEG": hit, "GMNER": same and hit}


def best_region(prediction: Prediction, span: Span, min_score: float | None = None) -> Region | None:
    """The phrase region that fits a span: highest overlap of words (IoU), then the higher score, then the first."""
    fitting = [
        (_overlap(one.span, span), one.score, one)
        for one in prediction.objects
        if one.source == "phrase" and one.box and one.span and one.span.overlaps(span)
        and (min_score is None or one.score >= min_score)
    ]  # fmt: skip
    return max(fitting, key=lambda row: row[:2], default=(0, 0, None))[2]


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two `x0, y0, x1, y1`; 0 if both are empty."""
    sides = [max(0.0, min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis])) for axis in (0, 1)]
    shared = sides[0] * sides[1]
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - shared
    return shared / union if union > 0 else 0.0


def _overlap(one: Span, other: Span) -> float:
    common = max(0, min(one.end, other.end) - max(one.start, other.start))
    return common / (max(one.end, other.end) - min(one.start, other.start))


def _file(prediction: Prediction, folder: Path) -> Path | None:
    names = [Path(image.name).stem for image in prediction.post.images[:1]] + [prediction.post.id]
    paths = (folder / f"{name}.xml" for name in names if name and "/" not in name and name not in (".", ".."))
    return next((path for path in paths if path.is_file()), None)


def _corners(box: Tree.Element, path: Path) -> Corners:
    try:
        x0, y0, x1, y1 = (float(box.findtext(name) or "") for name in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        raise DataError("a box without four numbers", where=str(path)) from None
    if not (x0 <= x1 and y0 <= y1):
        found = f"{x0}, {y0}, {x1}, {y1}"
        raise DataError("a box needs xmin <= xmax and ymin <= ymax", where=str(path), found=found)
    return x0, y0, x1, y1


def _size(root: Tree.Element, path: Path) -> tuple[int, int]:
    """Width and height, 0 where they are not given."""
    texts = [root.findtext(f"size/{side}") or "0" for side in ("width", "height")]
    try:
        width, height = (int(float(text)) for text in texts)
    except (ValueError, OverflowError):
        raise DataError("a size without two numbers", where=str(path), found=" and ".join(texts)) from None
    return width, height


def _scale(prediction: Prediction, annotations: Annotations) -> tuple[float, float]:
    image = next((image for image in prediction.post.images[:1] if image.ok), None)
    if image is None or not (annotations.width and annotations.height and image.width and image.height):
        return 1.0, 1.0
    return image.width / annotations.width, image.height / annotations.height


def _scaled(box: Corners, scale: tuple[float, float]) -> Corners:
    return box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1]

"""Gold boxes of named entities as Twitter-GMNER has them: an XML file a picture, in the layout of Pascal VOC.

annotation: size (width, height), and object* (name: the entity's words; bndbox: xmin, ymin, xmax, ymax). An entity may
have several boxes, and those that the picture does not show have none.

Grounding quality: are an entity's words, type and box right? The three scores of GMNER (Yu et al. 2023).

An entity's box is the grounder's for the noun phrase that fits its words best; it is no evidence that the tagger used
it. A box is right where it overlaps some gold box of the entity by IoU >= 0.5; an entity that the picture does not show
is right only without a box.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as Tree

from report.runs import Line, Thing
from schema.errors import DataError
from schema.records import Entity, Span
from schema.scores import Counts

MAX_BYTES = 1_000_000  # of a file: real ones have a few kilobytes
REFUSED = (b"<!DOCTYPE", b"<!ENTITY", b"\0")  # UTF-16 would hide the first two
CORNERS = ("xmin", "ymin", "xmax", "ymax")
Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Marked:
    """What one file says: boxes by name, the picture's size (0: not said), and objects without a name."""

    boxes: Mapping[str, tuple[Corners, ...]]
    width: int
    height: int
    n_nameless: int = 0
    names: Mapping[str, str] = field(default_factory=dict, compare=False)  # as written, by their keys in `boxes`


@dataclass(frozen=True)
class Matched:
    """Gold boxes of each post's entities (none: the picture does not show it), and what found no place.

    `n_strays` names are no entity of their post; `n_scaled` files speak of another size than the posts' picture, and
    their boxes were scaled; `n_files` files were used.
    """

    boxes: Mapping[tuple[str, Entity], tuple[Corners, ...]]
    n_files: int
    n_strays: int
    n_nameless: int
    n_scaled: int


def read_marked(path: Path) -> Marked:
    """One file; raises DataError for what is no such XML. A document type is refused: its entities could grow."""
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
    for found in root.iter("object"):
        text = found.findtext("name") or ""
        name = key_of(text)
        if name:
            names.setdefault(name, " ".join(text.split()))
            boxes.setdefault(name, []).extend(_corners(box, path) for box in found.iter("bndbox"))
        n_nameless += not name
    return Marked({name: tuple(some) for name, some in boxes.items()}, *_size(root, path), n_nameless, names)


def match(lines: Sequence[Line], folder: Path) -> Matched:
    """Gold boxes of the lines' entities from `folder/STEM.xml`, STEM being the first picture's name, or the post's id.

    A name meets an entity where their letters agree without blanks and case; two entities of one name share its boxes.
    Raises DataError where no line has a file.
    """
    found: dict[tuple[str, Entity], tuple[Corners, ...]] = {}
    n_files = n_strays = n_nameless = n_scaled = 0
    for line in lines:
        path = _file(line, folder)
        marked = read_marked(path) if path else Marked({}, 0, 0)
        scale = _scale(line, marked)
        names = {one: key_of(" ".join(line.words[one.span.start : one.span.end])) for one in line.gold or ()}
        for entity, name in names.items():
            found[line.id, entity] = tuple(_scaled(box, scale) for box in marked.boxes.get(name, ()))
        n_files += path is not None
        n_strays += len(set(marked.boxes) - set(names.values()))
        n_nameless += marked.n_nameless
        n_scaled += scale != (1.0, 1.0)
    if not n_files:
        raise DataError("no gold boxes of these posts", where=str(folder), todo="one NAME.xml for a picture NAME.jpg")
    return Matched(found, n_files, n_strays, n_nameless, n_scaled)


def key_of(name: str) -> str:
    """What decides whether two names are one."""
    return re.sub(r"\s+", "", name).casefold()


def _file(line: Line, folder: Path) -> Path | None:
    names = [Path(picture.name).stem for picture in line.pictures[:1]] + [line.id]
    paths = (folder / f"{name}.xml" for name in names if name and "/" not in name and name not in (".", ".."))
    return next((path for path in paths if path.is_file()), None)


def _corners(box: Tree.Element, path: Path) -> Corners:
    try:
        x0, y0, x1, y1 = (float(box.findtext(name) or "") for name in CORNERS)
    except ValueError:
        raise DataError("a box without four numbers", where=str(path)) from None
    if not (x0 <= x1 and y0 <= y1):
        raise DataError("a box whose corners are the wrong way round", where=str(path), found=f"{x0, y0, x1, y1}")
    return x0, y0, x1, y1


def _size(root: Tree.Element, path: Path) -> tuple[int, int]:
    """Width and height, 0 where they are not said."""
    told = [root.findtext(f"size/{side}") or "0" for side in ("width", "height")]
    try:
        width, height = (int(float(one)) for one in told)
    except (ValueError, OverflowError):
        raise DataError("a size without two numbers", where=str(path), found=" and ".join(told)) from None
    return width, height


def _scale(line: Line, marked: Marked) -> tuple[float, float]:
    picture = next((one for one in line.pictures[:1] if one.state == "ok"), None)
    if picture is None or not (marked.width and marked.height and picture.width and picture.height):
        return 1.0, 1.0
    return picture.width / marked.width, picture.height / marked.height


def _scaled(box: Corners, scale: tuple[float, float]) -> Corners:
    return box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1]


HIT_IOU = 0.5
SCORES = ("MNER", "EEG", "GMNER")  # words and type; words and box; words, type and box
GoldBoxes = Mapping[tuple[str, Entity], tuple[Corners, ...]]


def score(lines: Sequence[Line], gold: GoldBoxes, min_score: float | None = None) -> dict[str, Counts]:
    """Each of `SCORES` over labelled lines; boxes below `min_score` (the grounder's own) count as none."""
    n_gold = n_predicted = 0
    correct = dict.fromkeys(SCORES, 0)
    for line in lines:
        wanted, given = set(line.gold or ()), set(line.entities)
        n_gold, n_predicted = n_gold + len(wanted), n_predicted + len(given)
        for entity in given:
            right = is_right(line, entity, gold, min_score)
            for name in SCORES:
                correct[name] += right[name]
    return {name: Counts(n_gold, n_predicted, n) for name, n in correct.items()}


def is_right(line: Line, entity: Entity, gold: GoldBoxes, min_score: float | None = None) -> dict[str, bool]:
    """Whether a predicted entity counts under each of `SCORES`."""
    met = next((one for one in line.gold or () if one.span == entity.span), None)
    if met is None:
        return dict.fromkeys(SCORES, False)
    boxes, chosen = gold.get((line.id, met), ()), box_of(line, entity.span, min_score)
    seen = chosen.xyxy if chosen else None
    hit = any(iou(seen, box) >= HIT_IOU for box in boxes) if seen else not boxes
    same = met.type == entity.type
    return {"MNER": same, "EEG": hit, "GMNER": same and hit}


def box_of(line: Line, span: Span, min_score: float | None = None) -> Thing | None:
    """The phrase object that fits a span: the largest share of common words, then the higher score, then the first."""
    fitting = [
        one
        for one in line.things
        if one.source == "phrase" and one.xyxy and one.span and one.span.overlaps(span)
        and (min_score is None or (one.score is not None and one.score >= min_score))
    ]  # fmt: skip
    return max(fitting, key=lambda one: (_share(one.span, span), one.score or 0.0), default=None)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two `x0, y0, x1, y1`; 0 where both are empty."""
    sides = [max(0.0, min(a[at + 2], b[at + 2]) - max(a[at], b[at])) for at in (0, 1)]
    shared = sides[0] * sides[1]
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - shared
    return shared / union if union > 0 else 0.0


def _share(one: Span | None, other: Span) -> float:
    if one is None:
        return 0.0
    common = max(0, min(one.end, other.end) - max(one.start, other.start))
    return common / (max(one.end, other.end) - min(one.start, other.start))

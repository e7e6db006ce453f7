"""Grounding quality: are an entity's words, type and box right? The three scores of GMNER (Yu et al. 2023).

An entity's box is the grounder's for the noun phrase that fits its words best; it is no evidence that the tagger used
it. A box is right where it overlaps some gold box of the entity by IoU >= 0.5; an entity that the picture does not show
is right only without a box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from report.gold_boxes import Corners
from report.runs import Line, Thing
from schema.records import Entity, Span
from schema.scores import Counts

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

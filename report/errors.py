"""The outcome of each entity (correct, wrong type, missed, ...), and its class in nervaluate's four schemes.

Predictions are paired in order: each with the gold entity of the same words, else with the first unpaired one that it
overlaps. Gold entities that stay unpaired are missed. nervaluate's strict, exact and partial schemes pair the same way;
its ent_type scheme differs only where a prediction overlaps several gold entities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from schema.records import Entity

Kind = Literal["correct", "type", "boundary", "both", "missed", "spurious"]
KINDS: tuple[Kind, ...] = ("correct", "type", "boundary", "both", "missed", "spurious")
SCHEMES = ("strict", "exact", "partial", "ent_type")
CLASSES: dict[Kind, tuple[str, ...]] = {  # kind -> nervaluate's class under each of SCHEMES
    "correct": ("correct", "correct", "correct", "correct"),
    "type": ("incorrect", "correct", "correct", "incorrect"),
    "boundary": ("incorrect", "incorrect", "partial", "correct"),
    "both": ("incorrect", "incorrect", "partial", "incorrect"),
    "missed": ("missed",) * 4,
    "spurious": ("spurious",) * 4,
}
TITLES: dict[Kind, str] = {
    "correct": "Correct",
    "type": "Wrong type",
    "boundary": "Wrong words",
    "both": "Wrong words and type",
    "missed": "Missed",
    "spurious": "Spurious",
}
MEANINGS: dict[Kind, str] = {
    "correct": "the same words and type",
    "type": "the same words, another type",
    "boundary": "overlapping words, the same type",
    "both": "overlapping words, another type",
    "missed": "a gold entity without a prediction",
    "spurious": "a prediction without a gold entity",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A kind, and the indices of the gold and the predicted entity; None if there is none."""

    kind: Kind
    gold: int | None
    predicted: int | None


def outcomes(gold: Sequence[Entity], predicted: Sequence[Entity]) -> list[Outcome]:
    """Outcomes ordered by their first words; each gold and each predicted entity is in exactly one of them."""
    unpaired = dict(enumerate(gold))
    paired = []
    for index, entity in enumerate(predicted):
        same = [at for at, other in unpaired.items() if other.span == entity.span]
        overlapping = [at for at, other in unpaired.items() if other.span.overlaps(entity.span)]
        match = next(iter(same or overlapping), None)
        kind: Kind = "spurious" if match is None else _kind(unpaired.pop(match), entity)
        paired.append(Outcome(kind, match, index))
    paired += [Outcome("missed", at, None) for at in unpaired]
    return sorted(paired, key=lambda outcome: _position(outcome, gold, predicted))


def count(
    posts: Iterable[tuple[Sequence[Entity], Sequence[Entity]]],
) -> tuple[Counter[tuple[str, Kind]], Counter[tuple[str, str]]]:
    """Over (gold, predicted) of posts: outcomes by (type, kind), and by (gold type, predicted type), "" for none.

    The type of an outcome is its gold type, or the predicted type if there is no gold entity.
    """
    kinds: Counter[tuple[str, Kind]] = Counter()
    confusion: Counter[tuple[str, str]] = Counter()
    for gold, predicted in posts:
        for outcome in outcomes(gold, predicted):
            actual = "" if outcome.gold is None else gold[outcome.gold].type
            given = "" if outcome.predicted is None else predicted[outcome.predicted].type
            kinds[actual or given, outcome.kind] += 1
            confusion[actual, given] += 1
    return kinds, confusion


def _kind(gold: Entity, predicted: Entity) -> Kind:
    if gold.span == predicted.span:
        return "correct" if gold.type == predicted.type else "type"
    return "boundary" if gold.type == predicted.type else "both"


def _position(outcome: Outcome, gold: Sequence[Entity], predicted: Sequence[Entity]) -> tuple[int, int]:
    entity = predicted[outcome.predicted or 0] if outcome.gold is None else gold[outcome.gold]
    return entity.span.start, entity.span.end

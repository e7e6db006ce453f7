"""What became of each entity: kinds of outcomes, and the classes that nervaluate's four schemes give them.

Predictions are walked in order. One takes the gold entity of the same words, else the first free one that it overlaps,
else none; gold entities that nobody took are missed. This is the pairing of nervaluate's strict, exact and partial
schemes; its ent_type scheme pairs otherwise only where a prediction overlaps several gold entities.
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
    "spurious": "Invented",
}
MEANINGS: dict[Kind, str] = {
    "correct": "the same words and type",
    "type": "the same words, another type",
    "boundary": "overlapping words, the same type",
    "both": "overlapping words, another type",
    "missed": "a gold entity that no prediction met",
    "spurious": "a prediction that met no gold entity",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A kind, and the indices of the gold and the predicted entity that it is about; None where there is none."""

    kind: Kind
    gold: int | None
    predicted: int | None


def outcomes(gold: Sequence[Entity], predicted: Sequence[Entity]) -> list[Outcome]:
    """Every gold and every predicted entity of a post in exactly one outcome, ordered by their first words."""
    free = dict(enumerate(gold))
    found = []
    for index, entity in enumerate(predicted):
        same = next((at for at, other in free.items() if other.span == entity.span), None)
        met = same if same is not None else next((at for at, other in free.items() if _meet(other, entity)), None)
        found.append(Outcome("spurious" if met is None else _kind(free.pop(met), entity), met, index))
    found += [Outcome("missed", at, None) for at in free]
    return sorted(found, key=lambda outcome: _place(outcome, gold, predicted))


def count(
    posts: Iterable[tuple[Sequence[Entity], Sequence[Entity]]],
) -> tuple[Counter[tuple[str, Kind]], Counter[tuple[str, str]]]:
    """Over (gold, predicted) of posts: outcomes by (type, kind), and by (gold type, predicted type), "" for none.

    The type of an outcome is its gold type, and the predicted one where there is no gold entity.
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


def _meet(gold: Entity, predicted: Entity) -> bool:
    return gold.span.overlaps(predicted.span)


def _kind(gold: Entity, predicted: Entity) -> Kind:
    if gold.span == predicted.span:
        return "correct" if gold.type == predicted.type else "type"
    return "boundary" if gold.type == predicted.type else "both"


def _place(outcome: Outcome, gold: Sequence[Entity], predicted: Sequence[Entity]) -> tuple[int, int]:
    entity = predicted[outcome.predicted or 0] if outcome.gold is None else gold[outcome.gold]
    return entity.span.start, entity.span.end

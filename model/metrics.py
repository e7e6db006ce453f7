"""Scores of tag sequences (strict and lenient IOB2 spans) and the confusion of word types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from schema.errors import DataError
from schema.labels import entities
from schema.scores import Counts

Tags = Sequence[str]


@dataclass(frozen=True)
class Scores:
    """Micro-averaged counts and those of each type, in the label set's order."""

    micro: Counts
    types: dict[str, Counts] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"micro": self.micro.to_json(), "types": {name: self.types[name].to_json() for name in self.types}}


def score(gold: Sequence[Tags], predicted: Sequence[Tags], types: Sequence[str], *, lenient: bool = False) -> Scores:
    """Entity scores over posts with IOB2 tags; an entity is correct if its words and type agree.

    Strict: only `B-` opens an entity, on both sides. Lenient: an orphan `I-` opens one too, as in seqeval's default.
    """
    counts = {name: Counts() for name in types}
    for post_gold, post_predicted in _pairs(gold, predicted):
        in_gold = set(entities(post_gold, lenient=lenient))
        in_predicted = set(entities(post_predicted, lenient=lenient))
        for found, change in (
            (in_gold, Counts(n_gold=1)),
            (in_predicted, Counts(n_predicted=1)),
            (in_gold & in_predicted, Counts(n_correct=1)),
        ):
            for entity in found:
                counts[entity.type] += change
    return Scores(sum(counts.values(), Counts()), counts)


def confusion(gold: Sequence[Tags], predicted: Sequence[Tags]) -> Counter[tuple[str, str]]:
    """How many words of each actual type (`O` for none) got each predicted type."""
    pairs: Counter[tuple[str, str]] = Counter()
    for post_gold, post_predicted in _pairs(gold, predicted):
        pairs.update((_type(a), _type(b)) for a, b in zip(post_gold, post_predicted, strict=True))
    return pairs


def _type(tag: str) -> str:
    return tag[2:] or "O"


def _pairs(gold: Sequence[Tags], predicted: Sequence[Tags]) -> Iterator[tuple[Tags, Tags]]:
    if len(gold) != len(predicted):
        raise DataError("gold and predicted posts differ in number", found=f"{len(gold)} and {len(predicted)}")
    for index, (a, b) in enumerate(zip(gold, predicted, strict=True)):
        if len(a) != len(b):
            raise DataError(
                "gold and predicted tags differ in number", where=f"post {index}", found=f"{len(a)}, {len(b)}"
            )
        yield a, b

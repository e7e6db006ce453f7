"""What the best predictor can reach on a smoke shard, from the shard's own distribution: exact, no model involved.

Types of a post's names are distinct and, by the generator's symmetry (embedded.posts), each assignment that agrees with
what is seen is equally likely. So a name whose type nothing tells has each type that no other told name of its post
has with the same chance. Spans are never in doubt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from embedded.names import TYPES
from embedded.posts import Draft


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Highest expected strict micro-F1, for predictors that read posts alone, and with their pictures."""

    text: float
    pictures: float


def ceilings(drafts: Iterable[Draft]) -> Ceilings:
    """Both ceilings of some posts."""
    listed = list(drafts)
    alone = [chance for draft in listed for chance in chances(draft, pictures=False)]
    both = [chance for draft in listed for chance in chances(draft, pictures=True)]
    return Ceilings(float(best_f1(alone)), float(best_f1(both)))


def chances(draft: Draft, *, pictures: bool) -> list[Fraction]:
    """For each name of a post, the probability of its most likely type."""
    seen = pictures and draft.picture == "ok"
    told = [bool(mention.noun) or seen for mention in draft.mentions]
    return [Fraction(1, 1 if known else len(TYPES) - sum(told)) for known in told]


def best_f1(each: Sequence[Fraction]) -> Fraction:
    """Highest expected F1 where `each` name is right with its chance and may be left out.

    Gold entities number G = len(each). Predicting a set S gives 2 sum_S(chance) / (|S| + G) in expectation, exactly,
    since G and |S| are fixed; the best S of each size holds the most certain names.
    """
    right, best = Fraction(0), Fraction(0)
    for n_predicted, chance in enumerate(sorted(each, reverse=True), start=1):
        right += chance
        best = max(best, 2 * right / (n_predicted + len(each)))
    return best

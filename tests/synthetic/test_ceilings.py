from collections import defaultdict
from fractions import Fraction
from itertools import combinations, permutations, product

import pytest

from synthetic import posts
from synthetic.draw import best_f1, ceilings, chances
from synthetic.posts import BLOCK, TYPES, draft


def bayes(cells, *, images):
    """Chances of the most likely types by brute force: all renamings of the types are equally likely."""
    found = []
    for cell in cells:
        worlds = defaultdict(list)  # what is seen -> assignments of types that look so
        for renamed in permutations(TYPES):
            kinds = tuple(renamed[TYPES.index(kind)] for kind in cell.types)
            seen = images and cell.image == "ok"
            shown = tuple(
                k if seen or clue in ("both", "misled") else None for k, clue in zip(kinds, cell.clues, strict=True)
            )
            worlds[shown].append(kinds)
        n_worlds = sum(map(len, worlds.values()))
        for slot in range(len(cell.types)):
            right = sum(max(sum(w[slot] == kind for w in some) for kind in TYPES) for some in worlds.values())
            found.append(Fraction(right, n_worlds))
    return sorted(found)


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("split", ["train", "test"])
def test_chances_are_those_of_brute_force(split, images):
    mine = [chance for k in range(BLOCK) for chance in chances(draft(0, split, k), images=images)]
    assert sorted(mine) == bayes(posts._block(0, split, 0), images=images)


def expected_f1(each, chosen):
    """Over all outcomes: which of the predicted names turn out right."""
    total = Fraction(0)
    for outcome in product([True, False], repeat=len(chosen)):
        weight = Fraction(1)
        for index, right in zip(chosen, outcome, strict=True):
            weight *= each[index] if right else 1 - each[index]
        total += weight * Fraction(2 * sum(outcome), len(chosen) + len(each))
    return total


@pytest.mark.parametrize(
    "each",
    [
        [Fraction(1), Fraction(1, 4), Fraction(1, 4), Fraction(1, 4)],  # guesses pay
        [Fraction(1), Fraction(1), Fraction(1), Fraction(1, 4), Fraction(1, 3)],  # here they do not
        [Fraction(1, 2), Fraction(1, 3), Fraction(1, 5), Fraction(1, 100)],
    ],
)
def test_the_best_choice_is_that_of_brute_force(each):
    some = [chosen for size in range(1, len(each) + 1) for chosen in combinations(range(len(each)), size)]
    assert best_f1(each) == max(expected_f1(each, chosen) for chosen in some)


def test_leaving_out_guesses_counts_where_it_pays():
    assert best_f1([Fraction(1)] * 9 + [Fraction(1, 4)]) == Fraction(18, 19)
    assert best_f1([]) == 0


def test_the_smoke_datasets_ceilings_are_far_apart():
    best = ceilings([draft(0, "test", k) for k in range(3 * BLOCK)])
    # by hand, a block: of 120 names 28 are told, 16 stand beside a told one, 76 are guessed
    assert best.text == pytest.approx((28 + 16 / 3 + 76 / 4) / 120)
    assert best.images == pytest.approx(2 * 112 / (112 + 120))  # 8 are not seen and best left out
    assert best.images >= 0.93
    assert best.images - best.text >= 0.45

"""The best tree against all trees."""

from functools import lru_cache

import numpy as np
import pytest

from pipeline.phrases.chart import best_trees


def every_tree(start: int, end: int):
    if end - start == 1:
        yield ((start, end),)
        return
    for middle in range(start + 1, end):
        for left in every_tree(start, middle):
            for right in every_tree(middle, end):
                yield ((start, end), *left, *right)


@lru_cache
def trees(n_words: int):
    return list(every_tree(0, n_words))


@pytest.mark.parametrize("seed", range(20))
def test_no_tree_is_better(seed):
    rng = np.random.default_rng(seed)
    lengths = [int(n) for n in rng.integers(1, 7, 3)]
    gains = rng.random((3, 8, 8)).astype(np.float32)
    for row, (found, n_words) in enumerate(zip(best_trees(gains, lengths), lengths, strict=True)):
        totals = {tree: sum(gains[row][span] for span in tree) for tree in trees(n_words)}
        assert len(found) == 2 * n_words - 1
        assert tuple(found) in totals
        assert totals[tuple(found)] == pytest.approx(max(totals.values()), rel=1e-5)


def test_what_lies_beyond_a_sentence_is_not_read():
    gains = np.random.default_rng(0).random((1, 6, 6)).astype(np.float32)
    alone = best_trees(gains, [3])
    gains[:, :, 4:] = 100
    assert best_trees(gains, [3]) == alone

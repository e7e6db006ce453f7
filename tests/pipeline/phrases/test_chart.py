"""The chart search against every binary tree."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from pipeline.phrases import span_parser

Tree = tuple[tuple[int, int], ...]


@cache
def binary_trees(start: int, end: int) -> list[Tree]:
    """All binary trees over words [start, end), each as its spans."""
    if end - start == 1:
        return [((start, end),)]
    return [
        ((start, end), *left, *right)
        for middle in range(start + 1, end)
        for left in binary_trees(start, middle)
        for right in binary_trees(middle, end)
    ]


def total(gains: np.ndarray, tree: Tree) -> float:
    return float(sum(gains[start, end] for start, end in tree))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_words", range(1, 8))
def test_no_binary_tree_scores_more(seed: int, n_words: int) -> None:
    gains = np.random.default_rng(seed).exponential(size=(n_words + 1, n_words + 1)).astype(np.float32)
    [found] = span_parser.best_trees(gains[None], [n_words])
    assert sorted(found) in [sorted(tree) for tree in binary_trees(0, n_words)]
    assert total(gains, tuple(found)) == pytest.approx(max(total(gains, tree) for tree in binary_trees(0, n_words)))


def test_sentences_of_different_lengths_share_a_chart() -> None:
    gains = np.random.default_rng(0).exponential(size=(3, 9, 9)).astype(np.float32)
    together = span_parser.best_trees(gains, [8, 3, 1])
    alone = [span_parser.best_trees(gains[row : row + 1, : n + 1, : n + 1], [n])[0] for row, n in enumerate((8, 3, 1))]
    assert together == alone


def test_what_lies_beyond_the_words_is_not_read() -> None:
    gains = np.ones((1, 6, 6), np.float32)
    gains[0, 1, 3] = 5
    noisy = gains.copy()
    noisy[0, :, 4:] = 1000
    assert span_parser.best_trees(noisy, [3]) == span_parser.best_trees(gains, [3])
    assert span_parser.best_trees(gains, [3])[0] == [(0, 3), (0, 1), (1, 3), (1, 2), (2, 3)]  # preorder

"""The best binary tree over a sentence, exactly: CKY over span gains, many sentences at once.

B sentences, W fences (W - 1 words). In a tree of binary splits every span scores its gain; a span whose gain is 0 is
there for the binary form only and is no constituent. The best tree of a span is its gain plus the best pair of parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def best_trees(gains: Floats, n_words: list[int]) -> list[list[tuple[int, int]]]:
    """All spans [start, end) of each sentence's best tree, its 2n - 1 binary nodes in preorder.

    gains [B, W, W] float32, at [start, end], at least 0; what lies beyond a sentence's own words is not read.
    Ties go to the leftmost split.
    """
    splits = _splits(gains)
    return [_walk(splits[row], count) for row, count in enumerate(n_words)]


def _splits(gains: Floats) -> NDArray[np.int32]:
    """Where each span splits: [B, W, W] at [start, width], counted from its start."""
    n_rows, n_fences, _ = gains.shape
    most = n_fences - 1
    opens = np.zeros((n_rows, n_fences, n_fences), np.float32)  # best total of the span of width w that starts at i
    closes = np.zeros_like(opens)  # the same, by its end
    splits = np.zeros((n_rows, n_fences, n_fences), np.int32)
    starts = np.arange(most)
    opens[:, :most, 1] = closes[:, 1:, 1] = gains[:, starts, starts + 1]
    for width in range(2, most + 1):
        count = n_fences - width
        totals = opens[:, :count, 1:width] + closes[:, width:, width - 1 : 0 : -1]  # [B, count, width - 1]
        split = totals.argmax(-1)
        starts = np.arange(count)
        best = np.take_along_axis(totals, split[..., None], -1)[..., 0] + gains[:, starts, starts + width]
        opens[:, :count, width] = closes[:, width:, width] = best
        splits[:, :count, width] = split + 1
    return splits


def _walk(splits: NDArray[np.int32], n_words: int) -> list[tuple[int, int]]:
    spans, left = [], [(0, n_words)]
    while left:
        start, end = left.pop()
        spans.append((start, end))
        if end - start > 1:
            middle = start + int(splits[start, end - start])
            left += [(middle, end), (start, middle)]
    return spans

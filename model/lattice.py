"""The flat lattice: positions of cells, relative distances, sinusoids (Section 3.1, Eq. 3-8).

A text sequence is `[CLS] w1 .. wn [SEP]`; a cell's position is its index there, so words are 1..n. A text cell has
head = tail = position; an object has the positions of the first and the last word that it stands at.
"""

from __future__ import annotations

import torch
from torch import Tensor

from schema.errors import DataError
from schema.records import Span


def object_span(span: Span | None, n_words: int) -> tuple[int, int]:
    """(head, tail) of an object: its phrase's first and last word, or all words (None: image and general words)."""
    if span is None:
        return 1, n_words
    if span.end > n_words:
        raise DataError("an object stands at words that the post does not have", found=f"{span} of {n_words} words")
    return span.head, span.tail


def distances(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Eq. 3-6 between cells given as (head, tail) [..., I, 2] and [..., J, 2]: hh, ht, th, tt, each [..., I, J]."""
    head_i, tail_i = queries[..., :, None, 0], queries[..., :, None, 1]
    head_j, tail_j = keys[..., None, :, 0], keys[..., None, :, 1]
    return head_i - head_j, head_i - tail_j, tail_i - head_j, tail_i - tail_j


def sinusoid(distance: Tensor, dim: int) -> Tensor:
    """Eq. 7-8 for integer distances [...], which may be negative: float64 [..., dim]; an odd `dim` ends on a sine."""
    k = torch.arange(0, dim, 2, dtype=torch.float64, device=distance.device)
    angle = distance.to(torch.float64)[..., None] / 10000 ** (k / dim)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[..., :dim]


def position_table(n_text: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Sinusoids of every distance in a sequence, row r for distance r - (n_text - 1): float64 [2 n_text - 1, dim]."""
    return sinusoid(torch.arange(1 - n_text, n_text, device=device), dim)

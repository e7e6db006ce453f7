"""R of Eq. 9 for a batch, exact, without the four-fold concatenation and without text-text pairs.

B posts, T text cells, M objects, D width. W_r acts on a concatenation, so it falls into four D x D blocks (hh, ht, th,
tt), and R_ij = ReLU(t_hh[d_hh] + t_ht[d_ht] + t_th[d_th] + t_tt[d_tt]) with one table t_x of 2T - 1 rows a block.
A text cell has head = tail, so distances coincide and their tables are summed first: one table for text on text, two
where one side is an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels.gemm import linear
from model.lattice import distances, position_table

CHUNK_ROWS = 2048  # rows looked up at once on CPU: 4 MB at D = 512, so the sums run in the cache


class Relative(NamedTuple):
    """R, shared by all layers; what a batch or a call does not need is None."""

    words: Tensor  # [2T-1, D], row r: distance T-1-r between two text cells
    word_object: Tensor | None = None  # [B*T, M, D]: text query, object key
    object_word: Tensor | None = None  # [B*M, T, D]
    object_object: Tensor | None = None  # [B*M, M, D]


class Sinusoids:
    """The last position table, kept until a longer text, another dtype or another device asks for a new one."""

    def __init__(self, dim: int) -> None:
        self.dim, self._table = dim, torch.empty(0, dim)

    def __call__(self, n_text: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Sinusoids of the distances 1 - n_text .. n_text - 1: [2 n_text - 1, dim], rounded once from float64."""
        table = self._table
        if len(table) < 2 * n_text - 1 or (table.dtype, table.device) != (dtype, device):
            with torch.inference_mode(False):  # else a table made while predicting could not serve training
                table = self._table = position_table(n_text, self.dim, device).to(dtype)
        spare = (len(table) + 1) // 2 - n_text
        return table[spare : len(table) - spare]


class Tables(NamedTuple):
    """What R is summed from, rows by distance 1-T .. T-1; one set serves any posts of at most T text cells.

    Made in the weights' own precision: sums that nearly cancel decide which side of the ReLU an entry falls on.
    """

    words: Tensor  # [2T-1, D]: R between text cells, the other way round: row r for distance T-1-r
    blocks: tuple[Tensor, ...] = ()  # hh, ht, th, tt, [2T-1, D] each; none for text alone


def tables_of(weight: Tensor, sinusoids: Tensor, with_objects: bool) -> Tables:
    """W_r [D, 4D] applied, block by block, to sinusoids [2T-1, D]."""
    dim = weight.shape[0]
    blocks = weight.view(dim, 4, dim)
    if not with_objects:
        return Tables(torch.relu(linear(sinusoids, blocks.sum(1))).flip(0))
    parts = linear(sinusoids, blocks.transpose(0, 1).reshape(4 * dim, dim)).chunk(4, dim=1)
    return Tables(torch.relu(parts[0] + parts[1] + parts[2] + parts[3]).flip(0), parts)


def relative_rows(tables: Tables, spans: Tensor, of_objects: bool, dtype: torch.dtype) -> Relative:
    """Eq. 9 for the pairs that posts need: spans int64 [B, M, 2] in 0..T-1, at padding too; `of_objects`: whether
    objects are queries as well; `dtype` of what is summed here."""
    words = tables.words
    if not tables.blocks:
        return Relative(words)
    (hh, ht, th, tt), (n_objects, dim) = tables.blocks, (spans.shape[1], tables.words.shape[1])
    zero = len(tables.words) // 2  # the row of distance 0, T - 1
    places, head, tail = torch.arange(zero + 1, device=spans.device), spans[..., 0], spans[..., 1]
    from_head, from_tail = places[:, None] - head[:, None] + zero, places[:, None] - tail[:, None] + zero  # [B, T, M]
    word_object = look_up([hh + th, ht + tt], [from_head, from_tail], dtype).view(-1, n_objects, dim)
    if not of_objects:
        return Relative(words, word_object)
    from_head, from_tail = head[..., None] - places + zero, tail[..., None] - places + zero  # [B, M, T]
    object_word = look_up([hh + ht, th + tt], [from_head, from_tail], dtype).view(-1, zero + 1, dim)
    pairs = [distance + zero for distance in distances(spans, spans)]  # [B, M, M] each
    object_object = look_up([hh, ht, th, tt], pairs, dtype).view(-1, n_objects, dim)
    return Relative(words, word_object, object_word, object_object)


def look_up(tables: Sequence[Tensor], indices: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """ReLU of the sum of table rows: tables [P, D] and as many indices int64 [...] -> [N, D] of `dtype`."""
    parts = [table.contiguous() for table in tables], [index.reshape(-1) for index in indices]
    return _LookUp.apply(dtype, len(tables), *parts[0], *parts[1])


class _LookUp(torch.autograd.Function):
    """In chunks, so that no sum waits in main memory; autograd's own would keep a mask and each addend."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, n_tables: int, *parts: Tensor) -> Tensor:
        tables, indices = parts[:n_tables], parts[n_tables:]
        rows = tables[0].new_empty(len(indices[0]), tables[0].shape[1], dtype=dtype)
        for at in _chunks(rows):
            same = dtype == tables[0].dtype
            total = rows[at] if same else torch.empty_like(rows[at], dtype=tables[0].dtype)
            torch.index_select(tables[0], 0, indices[0][at], out=total)
            for table, index in zip(tables[1:], indices[1:], strict=True):
                total += table.index_select(0, index[at])
            total.relu_()
            if not same:
                rows[at] = total
        ctx.table = tables[0].shape, tables[0].dtype
        ctx.save_for_backward(rows, *indices)
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, *indices = ctx.saved_tensors
        shape, dtype = ctx.table
        grads = [rows.new_zeros(shape, dtype=dtype) for _ in indices]
        for at in _chunks(rows):
            alive = torch.ops.aten.threshold_backward(grad[at], rows[at], 0).to(dtype)
            for total, index in zip(grads, indices, strict=True):
                total.index_add_(0, index[at], alive)
        return None, None, *grads, *(None for _ in indices)


def _chunks(rows: Tensor) -> list[slice]:
    step = CHUNK_ROWS if rows.device.type == "cpu" else max(1, rows.shape[0])
    return [slice(start, start + step) for start in range(0, rows.shape[0], step)]

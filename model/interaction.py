"""Flat multi-modal interaction (Eq. 1-12): exact, without a tensor of every pair of text cells times the width.

B posts, T text cells, M objects, L = T + M cells, H heads, D width, R = B*T + B*M rows. Cells of a batch are kept as
rows: the text cells of all posts, then the objects of all posts; so a linear layer is one product, text and objects
are views, and no row waits for the other modality's padding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.lattice import distances, position_table


class Shape(NamedTuple):
    """Sizes of a batch."""

    posts: int
    text: int
    objects: int

    @property
    def cells(self) -> int:
        return self.text + self.objects

    @property
    def text_rows(self) -> int:
        return self.posts * self.text


class Positions(NamedTuple):
    """R of Eq. 9 for one batch, shared by all layers."""

    words: Tensor  # [2T-1, D], row r: distance T-1-r between two text cells
    to_objects: Tensor | None  # [B*T, M, D]: text query, object key
    of_objects: Tensor | None  # [B*M, L, D]: object query, any key


class Projection(nn.Module):
    """Eq. 1-2: both modalities to one width, through a shared second map."""

    def __init__(self, text_dim: int, object_dim: int, dim: int) -> None:
        super().__init__()
        self.text = nn.Linear(text_dim, dim)
        self.objects = nn.Linear(object_dim, dim)
        self.shared = nn.Linear(dim, dim)

    def forward(self, text: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        """text [B, T, text_dim] and objects [B, M, object_dim] to [B, T, dim] and [B, M, dim]."""
        return self.shared(torch.relu(self.text(text))), self.shared(torch.relu(self.objects(objects)))


class Attention(nn.Module):
    """Eq. 10-12 over rows. `relative=False`: vanilla self-attention, the paper's "w/o Rel"."""

    def __init__(self, dim: int, heads: int, relative: bool = True) -> None:
        super().__init__()
        self.heads, self.relative = heads, relative
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_content = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        if relative:
            self.key_position = nn.Linear(dim, dim, bias=False)
            self.content_bias = nn.Parameter(torch.zeros(heads, dim // heads))
            self.position_bias = nn.Parameter(torch.zeros(heads, dim // heads))

    def forward(
        self, rows: Tensor, shape: Shape, masked: Tensor, positions: Positions | None, text_only: bool
    ) -> Tensor:
        """rows [R, D], masked bool [B, L] (True: no attention to it) -> [R, D], or [B*T, D] with `text_only`."""
        queries = rows[: shape.text_rows] if text_only else rows
        width = rows.shape[1] // self.heads
        scale = 1 / math.sqrt(width)
        query = self.query(queries).view(-1, self.heads, width) * scale
        keys = self._by_head(self.key_content(rows), shape)  # [B, H, L, D/H]
        values = self._by_head(self.value(rows), shape)
        content = query + self.content_bias * scale if self.relative else query
        n_text = shape.text_rows
        parts = [content[:n_text].view(shape.posts, shape.text, self.heads, width)]
        if not text_only:
            parts.append(content[n_text:].view(shape.posts, shape.objects, self.heads, width))
        scores = torch.cat(parts, 1).transpose(1, 2) @ keys.transpose(2, 3)  # [B, H, I, L]
        if positions is not None:
            scores = scores + self._position_scores(query + self.position_bias * scale, shape, positions, text_only)
        scores = scores.masked_fill(masked[:, None, None, :], torch.finfo(scores.dtype).min)
        mixed = (scores.softmax(dim=-1).to(values.dtype) @ values).transpose(1, 2).flatten(2)  # [B, I, D]
        mixed = torch.cat([part.flatten(0, 1) for part in mixed.split(shape.text, dim=1)]) if not text_only else mixed
        return self.output(mixed.reshape(-1, rows.shape[1]))

    def _by_head(self, rows: Tensor, shape: Shape) -> Tensor:
        text = rows[: shape.text_rows].view(shape.posts, shape.text, self.heads, -1)
        objects = rows[shape.text_rows :].view(shape.posts, shape.objects, self.heads, -1)
        return torch.cat([text, objects], dim=1).transpose(1, 2)

    def _position_scores(self, query: Tensor, shape: Shape, positions: Positions, text_only: bool) -> Tensor:
        """(q + v)^T W_kR R for all pairs: [B, H, I, L]."""
        text = self._word_scores(query[: shape.text_rows], shape, positions.words)
        if not shape.objects:
            return text
        weight = self.key_position.weight.view(self.heads, -1, self.key_position.in_features)
        moved = torch.einsum("rhk,hkd->rhd", query, weight)  # [R, H, D]: W_kR on the query's side
        n_text = shape.text_rows
        across = moved[:n_text] @ positions.to_objects.transpose(1, 2)  # [B*T, H, M]
        across = across.view(shape.posts, shape.text, self.heads, -1).transpose(1, 2)
        text = torch.cat([text, across], dim=3)
        if text_only:
            return text
        rest = moved[n_text:] @ positions.of_objects.transpose(1, 2)  # [B*M, H, L]
        return torch.cat([text, rest.view(shape.posts, shape.objects, self.heads, -1).transpose(1, 2)], dim=2)

    def _word_scores(self, query: Tensor, shape: Shape, words: Tensor) -> Tensor:
        """Text on text: one product with 2T-1 rows, then a shift by views. [B, H, T, T]."""
        keys = self.key_position(words).view(2 * shape.text - 1, self.heads, -1)
        raw = (query.transpose(0, 1) @ keys.permute(1, 2, 0)).contiguous()  # [H, B*T, 2T-1]
        n = shape.text
        size = (shape.posts, self.heads, n, n)
        return raw.as_strided(size, (n * (2 * n - 1), raw.stride(0), 2 * n - 2, 1), n - 1)


class Layer(nn.Module):
    """One post-norm Transformer layer."""

    def __init__(self, dim: int, heads: int, ffn_dim: int, dropout: float, relative: bool = True) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, relative)
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn_dim), nn.ReLU(), nn.Linear(ffn_dim, dim))
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, rows: Tensor, shape: Shape, masked: Tensor, positions: Positions | None, text_only: bool
    ) -> Tensor:
        mixed = self.dropout(self.attention(rows, shape, masked, positions, text_only))
        rows = self.norm1(rows[: mixed.shape[0]] + mixed)
        return self.norm2(rows + self.dropout(self.ffn(rows)))


class FlatInteraction(nn.Module):
    """Eq. 3-12: `layers` Transformer layers over the flat lattice of text cells and visual objects.

    `relative=False` leaves all position terms out (Table 5, "w/o Rel") and has no parameters for them. Dropout acts on
    the output of each sub-layer, as in the vanilla Transformer.
    """

    def __init__(
        self, dim: int, heads: int, layers: int, ffn_dim: int, dropout: float = 0.0, relative: bool = True
    ) -> None:
        super().__init__()
        if relative:
            self.position = nn.Linear(4 * dim, dim, bias=False)
        self.dim, self.relative = dim, relative
        self.layers = nn.ModuleList(Layer(dim, heads, ffn_dim, dropout, relative) for _ in range(layers))

    def forward(
        self, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Text and object cells after the last layer.

        text [B, T, dim]; text_mask bool [B, T], True = real, real cells first; objects [B, M, dim], M may be 0; spans
        int64 [B, M, 2], (head, tail) in 0..T-1 (anything at padding); object_mask bool [B, M]. Returns [B, T, dim] and
        [B, M, dim]; padding holds finite values without meaning.
        """
        shape = Shape(text.shape[0], text.shape[1], objects.shape[1])
        rows = self._run(text, text_mask, objects, spans, object_mask, text_only=False)
        return rows[: shape.text_rows].view_as(text), rows[shape.text_rows :].view_as(objects)

    def forward_text(
        self, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor
    ) -> Tensor:
        """As `forward`, text only: [B, T, dim]; the last layer computes nothing that only objects need."""
        return self._run(text, text_mask, objects, spans, object_mask, text_only=True).view_as(text)

    def _run(
        self, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor, text_only: bool
    ) -> Tensor:
        shape = Shape(text.shape[0], text.shape[1], objects.shape[1])
        rows = torch.cat([text.reshape(-1, self.dim), objects.reshape(-1, self.dim)])
        masked = ~torch.cat([text_mask, object_mask], dim=1)
        spans = spans.masked_fill(~object_mask[..., None], 0)
        positions = self._positions(shape, spans) if self.relative else None
        for number, layer in enumerate(self.layers, start=1):
            rows = layer(rows, shape, masked, positions, text_only and number == len(self.layers))
        return rows

    def _positions(self, shape: Shape, spans: Tensor) -> Positions:
        """Eq. 9 by its four d x d blocks: one table a block, R rows by gathers and sums."""
        n, zero = shape.text, shape.text - 1  # row of distance 0
        weight = self.position.weight
        sinusoids = position_table(n, self.dim, weight.device).to(weight.dtype)
        tables = (sinusoids @ weight.view(self.dim, 4, self.dim).permute(1, 2, 0)).unbind(0)  # hh, ht, th, tt [2T-1, D]
        words = torch.relu(sum(tables)).flip(0)
        if not shape.objects:
            return Positions(words, None, None)
        cells = torch.arange(n, device=spans.device)[:, None].expand(shape.posts, n, 2)
        to_objects = _gather(tables, distances(cells, spans), zero)
        of_objects = _gather(tables, distances(spans, torch.cat([cells, spans], dim=1)), zero)
        return Positions(words, to_objects.flatten(0, 1), of_objects.flatten(0, 1))


def _gather(tables: tuple[Tensor, ...], distance: tuple[Tensor, ...], zero: int) -> Tensor:
    return torch.relu(sum(table[index + zero] for table, index in zip(tables, distance, strict=True)))

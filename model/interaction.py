"""Flat multi-modal interaction (Eq. 1-12): exact, without a tensor of every pair of text cells times the width.

B posts, T text cells, M objects, L = T + M cells, D width. Between the layers cells are rows: the text cells of all
posts, then the objects of all posts; so a linear map is one product, and text and objects are views.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from model.attention import Inputs, attend
from model.gemm import linear
from model.position import Place, Shape
from model.relative import Relative, Sinusoids, relative_rows
from schema.errors import DataError


class Projection(nn.Module):
    """Eq. 1-2: both modalities to one width, through a shared second map."""

    def __init__(self, text_dim: int, object_dim: int, dim: int) -> None:
        super().__init__()
        self.text = nn.Linear(text_dim, dim)
        self.objects = nn.Linear(object_dim, dim)
        self.shared = nn.Linear(dim, dim)

    def forward(self, text: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        """text [B, T, text_dim] and objects [B, M, object_dim], M may be 0, to [B, T, dim] and [B, M, dim]."""
        return self._project(self.text, text), self._project(self.objects, objects)

    def _project(self, first: nn.Linear, cells: Tensor) -> Tensor:
        hidden = linear(cells.flatten(0, 1), first.weight, first.bias, relu=True)
        return linear(hidden, self.shared.weight, self.shared.bias).view(*cells.shape[:2], -1)


class Attention(nn.Module):
    """Eq. 10-12 over rows. `relative=False`: vanilla self-attention, Table 5's "w/o Rel"."""

    def __init__(self, dim: int, heads: int, relative: bool = True) -> None:
        super().__init__()
        self.heads, self.scale = heads, 1 / math.sqrt(dim // heads)
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_content = nn.Linear(dim, dim, bias=False)
        if relative:
            self.key_position = nn.Linear(dim, dim, bias=False)
            self.content_bias = nn.Parameter(torch.zeros(heads, dim // heads))
            self.position_bias = nn.Parameter(torch.zeros(heads, dim // heads))
        self.value = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def forward(
        self, rows: Tensor, shape: Shape, bias: Tensor | None, relative: Relative | None, text_only: bool
    ) -> tuple[Tensor, Relative | None]:
        """rows [B*T + B*M, D] -> the same, or [B*T, D] with `text_only`; and R for the next layer."""
        queries = rows[: shape.text_rows] if text_only else rows
        keys, values = linear(rows, self.key_content.weight), linear(rows, self.value.weight)
        weight = self.query.weight * self.scale
        if relative is None:
            inputs = Inputs(linear(queries, weight), keys, values, bias)
        else:
            content = linear(queries, weight, self.content_bias.flatten() * self.scale)
            step = (self.position_bias - self.content_bias).flatten() * self.scale  # from q + u to q + v
            word_keys = linear(relative.words, self.key_position.weight)
            weight = self.key_position.weight.to(content.dtype)
            place = Place(content + step.to(content.dtype), weight, word_keys, relative)
            inputs = Inputs(content, keys, values, bias, place)
        mixed, relative = attend(shape, inputs)
        return linear(mixed, self.output.weight), relative


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
        self, rows: Tensor, shape: Shape, bias: Tensor | None, relative: Relative | None, text_only: bool
    ) -> tuple[Tensor, Relative | None]:
        mixed, relative = self.attention(rows, shape, bias, relative, text_only)
        rows = self.norm1(rows[: len(mixed)] + self.dropout(mixed))
        return self.norm2(rows + self.dropout(self._feed_forward(rows))), relative

    def _feed_forward(self, rows: Tensor) -> Tensor:
        first, _, last = cast(list[nn.Linear], list(self.ffn))
        hidden = linear(rows, first.weight, first.bias, relu=True)
        return linear(hidden, last.weight, last.bias)


class FlatInteraction(nn.Module):
    """Eq. 3-12: `layers` Transformer layers over the flat lattice of text cells and visual objects.

    `relative=False` leaves all position terms out (Table 5, "w/o Rel") and has no parameters for them. Dropout acts on
    the output of each sub-layer, as in the vanilla Transformer.
    """

    def __init__(
        self, dim: int, heads: int, layers: int, ffn_dim: int, dropout: float = 0.0, relative: bool = True
    ) -> None:
        super().__init__()
        if dim % heads:
            raise DataError("dim must be a multiple of heads", found=f"dim {dim}, heads {heads}")
        self.dim, self.heads = dim, heads
        self.position = nn.Linear(4 * dim, dim, bias=False) if relative else None
        self.layers = nn.ModuleList(Layer(dim, heads, ffn_dim, dropout, relative) for _ in range(layers))
        self.sinusoids = Sinusoids(dim)

    def forward(
        self, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Text and object cells after the last layer.

        text [B, T, dim]; text_mask bool [B, T], True = real; objects [B, M, dim], M may be 0; spans int64 [B, M, 2],
        (head, tail) in 0..T-1 (anything at padding); object_mask bool [B, M]. Returns [B, T, dim] and [B, M, dim];
        padding holds finite values without meaning.
        """
        rows = self._run(text, text_mask, objects, spans, object_mask, text_only=False)
        n_text = text.shape[0] * text.shape[1]
        return rows[:n_text].view_as(text), rows[n_text:].view_as(objects)

    def forward_text(
        self, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor
    ) -> Tensor:
        """As `forward`, text only: [B, T, dim]; the last layer computes nothing that only objects need."""
        return self._run(text, text_mask, objects, spans, object_mask, text_only=True).view_as(text)

    def _run(
        self, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor, text_only: bool
    ) -> Tensor:
        shape = Shape(text.shape[0], text.shape[1], objects.shape[1], self.heads)
        rows = torch.cat([text.reshape(-1, self.dim), objects.reshape(-1, self.dim)])
        dtype = (
            torch.get_autocast_dtype(rows.device.type) if torch.is_autocast_enabled(rows.device.type) else rows.dtype
        )
        bias = _bias(torch.cat([text_mask, object_mask], dim=1), dtype)
        relative = None
        if self.position is not None:
            of_objects = not text_only or len(self.layers) > 1
            spans = spans.masked_fill(~object_mask[..., None], 0)
            relative = self._relative(self.position.weight, spans, shape, of_objects, dtype)
        for number, layer in enumerate(self.layers, start=1):
            rows, relative = layer(rows, shape, bias, relative, text_only and number == len(self.layers))
        return rows

    def _relative(self, weight: Tensor, spans: Tensor, shape: Shape, of_objects: bool, dtype: torch.dtype) -> Relative:
        """R, from tables in the weight's own precision, under autocast too: sinusoids of long distances need it."""
        with torch.autocast(weight.device.type, enabled=False):
            sinusoids = self.sinusoids(shape.text, weight.dtype, weight.device)
            return relative_rows(weight, sinusoids, spans, shape.text, of_objects, dtype)


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """What is added to the scores of a key, [B, 1, 1, L]; None where a look costs nothing and finds no padding."""
    if mask.device.type == "cpu" and bool(mask.all()):
        return None
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill_(~mask, torch.finfo(dtype).min / 2)[:, None, None]

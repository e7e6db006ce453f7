"""Flat multi-modal interaction (Eq. 1-12): exact, without a tensor of every pair of text cells times the width.

B posts, T text cells, M objects, L = T + M cells, H heads, D width. Inside, cells are rows: the text cells of all
posts, then the objects of all posts; so a linear map is one product, and text and objects are views.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from kernels.gemm import linear
from model.attention import Inputs, attend
from model.position import Place, Shape
from model.relative import Relative, Sinusoids, Tables, relative_rows, tables_of
from schema.errors import DataError

GROUP_ROWS = 1024  # text rows that go through all layers together on CPU without gradient: they never leave the cache


class Batch(NamedTuple):
    """The arguments of `FlatInteraction.forward`."""

    text: Tensor  # [B, T, D]
    text_mask: Tensor  # bool [B, T], True = real
    objects: Tensor  # [B, M, D]
    spans: Tensor  # int64 [B, M, 2]
    object_mask: Tensor  # bool [B, M], True = real

    def group(self, start: int, n_posts: int) -> Batch:
        return Batch(*(part[start : start + n_posts] for part in self))


class PositionWeights(NamedTuple):
    """A layer's weights of the position term, as its products take them."""

    step: Tensor  # [D]: from q + u to q + v, scaled
    key: Tensor  # [D, D]: W_kR
    word_keys: Tensor  # [2T-1, D]: W_kR applied to R between text cells


class Weights(NamedTuple):
    """What a layer's attention derives from its parameters once a call."""

    query: Tensor  # [D, D]: W_q / sqrt(D / H)
    content_bias: Tensor | None = None  # [D]: u, scaled
    position: PositionWeights | None = None


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
        return linear(hidden, self.shared.weight, self.shared.bias).view(*cells.shape[:2], self.shared.out_features)


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

    def weights(self, words: Tensor | None) -> Weights:
        """`words` is R between text cells, [2T-1, D], in the dtype of products; None without position terms."""
        query = self.query.weight * self.scale
        if words is None:
            return Weights(query)
        content, position = self.content_bias.flatten() * self.scale, self.position_bias.flatten() * self.scale
        key = self.key_position.weight
        of_position = PositionWeights((position - content).to(words), key.to(words), linear(words, key))
        return Weights(query, content, of_position)

    def forward(
        self,
        rows: Tensor,
        weights: Weights,
        shape: Shape,
        bias: Tensor | None,
        relative: Relative | None,
        text_only: bool,
    ) -> tuple[Tensor, Relative | None]:
        """rows [B*T + B*M, D] -> the same, or [B*T, D] with `text_only`; and R, for the next layer."""
        queries = rows[: shape.text_rows] if text_only else rows
        keys, values = linear(rows, self.key_content.weight), linear(rows, self.value.weight)
        content = linear(queries, weights.query, weights.content_bias)
        place = None
        if relative is not None and weights.position is not None:
            step, key, word_keys = weights.position
            place = Place(content + step, key, word_keys, relative)
        mixed, relative = attend(shape, Inputs(content, keys, values, bias, place))
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
        self,
        rows: Tensor,
        weights: Weights,
        shape: Shape,
        bias: Tensor | None,
        relative: Relative | None,
        text_only: bool,
    ) -> tuple[Tensor, Relative | None]:
        """As Attention.forward."""
        mixed, relative = self.attention(rows, weights, shape, bias, relative, text_only)
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
        self.layers = nn.ModuleList([Layer(dim, heads, ffn_dim, dropout, relative) for _ in range(layers)])
        self.sinusoids = Sinusoids(dim)

    def forward(
        self, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Text and object cells after the last layer.

        text [B, T, dim]; text_mask bool [B, T], True = real; objects [B, M, dim], M may be 0; spans int64 [B, M, 2],
        (head, tail) in 0..T-1 (anything at padding); object_mask bool [B, M]. Returns [B, T, dim] and [B, M, dim];
        padding holds finite values without meaning.
        """
        return self._run(Batch(text, text_mask, objects, spans, object_mask), text_only=False)

    def forward_text(
        self, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor
    ) -> Tensor:
        """As `forward`, text only: [B, T, dim]; the last layer computes nothing that only objects need."""
        return self._run(Batch(text, text_mask, objects, spans, object_mask), text_only=True)[0]

    def _run(self, batch: Batch, text_only: bool) -> tuple[Tensor, Tensor]:
        kind, (n_posts, n_text, _) = batch.text.device.type, batch.text.shape
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else batch.text.dtype
        tables = self._tables(n_text, batch.objects.shape[1] > 0, dtype)
        weights = [layer.attention.weights(tables.words if tables else None) for layer in self._layers()]
        step = max(1, GROUP_ROWS // n_text)
        if torch.is_grad_enabled() or kind != "cpu" or n_posts <= step:
            return self._stack(batch, tables, weights, dtype, text_only)
        groups = [
            self._stack(batch.group(at, step), tables, weights, dtype, text_only) for at in range(0, n_posts, step)
        ]
        text, objects = zip(*groups, strict=True)
        return torch.cat(text), torch.cat(objects)

    def _stack(
        self, batch: Batch, tables: Tables | None, weights: list[Weights], dtype: torch.dtype, text_only: bool
    ) -> tuple[Tensor, Tensor]:
        """All layers; with `text_only` the objects that come back are those that went in."""
        text, text_mask, objects, spans, object_mask = batch
        shape = Shape(text.shape[0], text.shape[1], objects.shape[1], self.heads)
        rows = torch.cat([text.reshape(-1, self.dim), objects.reshape(-1, self.dim)])
        bias, relative = _bias(torch.cat([text_mask, object_mask], dim=1), dtype), None
        if tables is not None:
            of_objects = not text_only or len(self.layers) > 1
            relative = relative_rows(tables, _checked(spans, object_mask, shape.text), of_objects, dtype)
        for number, (layer, own) in enumerate(zip(self._layers(), weights, strict=True), start=1):
            rows, relative = layer(rows, own, shape, bias, relative, text_only and number == len(self.layers))
        text = rows[: shape.text_rows].view_as(text)
        return text, objects if text_only else rows[shape.text_rows :].view_as(objects)

    def _layers(self) -> list[Layer]:
        return cast(list[Layer], list(self.layers))

    def _tables(self, n_text: int, with_objects: bool, dtype: torch.dtype) -> Tables | None:
        """Summed in the weight's own precision, under autocast too: sinusoids of long distances need it. What is
        ready for products, R between text cells, comes in `dtype`."""
        if self.position is None:
            return None
        weight = self.position.weight
        with torch.autocast(weight.device.type, enabled=False):
            sinusoids = self.sinusoids(n_text, weight.dtype, weight.device)
            tables = tables_of(weight, sinusoids, with_objects)
        return tables._replace(words=tables.words.to(dtype))


def _may_look(x: Tensor) -> bool:
    """Whether values may steer the code: a GPU would wait for them, and a compiled graph would break."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _checked(spans: Tensor, object_mask: Tensor, n_text: int) -> Tensor:
    """Spans with zeros at padding. Where nobody may look, a wrong span stops in the look-up of R."""
    spans = spans.masked_fill(~object_mask[..., None], 0)
    if _may_look(spans) and spans.numel() and not 0 <= int(spans.min()) <= int(spans.max()) < n_text:
        raise DataError(
            "an object's span lies outside the text",
            found=f"positions {int(spans.min())}..{int(spans.max())} of {n_text} text cells",
        )
    return spans


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """What is added to the scores of a key, [B, 1, 1, L]; None where a look costs nothing and finds no padding."""
    if _may_look(mask) and bool(mask.all()):
        return None
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill_(~mask, torch.finfo(dtype).min / 2)[:, None, None]

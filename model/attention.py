"""Attention over the flat lattice (Eq. 10-11), forward and backward, with nothing kept but the attention weights.

B posts, T text cells, M objects, L = T + M cells, H heads, D width, C = D / H. Cells are rows: the text cells of all
posts, then the objects of all posts. I query cells a post: L, or T where only text is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.position import Place, PositionGradient, PositionTerm, Shape
from model.relative import Relative

CHUNK_ROWS = 512  # text rows at once on CPU: their products with W_kR (8 MB at D = 512, H = 8) stay in the cache


class Inputs(NamedTuple):
    """What one layer's attention reads, all of one dtype."""

    content: Tensor  # (q + u) / sqrt(C): rows [B*T + B*M, D], or [B*T, D] for text queries only
    keys: Tensor  # rows [B*T + B*M, D]
    values: Tensor  # rows [B*T + B*M, D]
    bias: Tensor | None = None  # [B, 1, 1, L]: 0 = real, very negative = padding; no gradient
    place: Place | None = None  # None: no position term


def attend(shape: Shape, inputs: Inputs) -> tuple[Tensor, Relative | None]:
    """Eq. 10-11: the mixed values of all heads, rows as `content`; and R, to hand to the next layer.

    Layers pass R on from one to the next, so that in the backward pass its gradient is one buffer that every layer
    adds to, not a new tensor of that size a layer.
    """
    place = inputs.place
    with torch.autocast(inputs.keys.device.type, enabled=False):
        if not torch.is_grad_enabled():
            return _forward(shape, inputs, None), place.relative if place is not None else None
        if place is None:
            return _Attend.apply(shape, *inputs[:4], *(None,) * 7)[0], None
        mixed, *across = _Attend.apply(shape, *inputs[:4], *place[:3], *place.relative)
        return mixed, Relative(place.relative.words, *across)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shape: Shape, *parts: Any) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        weights: list[Tensor] = []
        mixed = _forward(shape, _inputs(parts), weights)
        ctx.shape, ctx.n_parts = shape, len(parts)
        ctx.save_for_backward(*parts, *weights)
        return mixed, *parts[-3:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *later: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):
            inputs = _inputs(saved[: ctx.n_parts])
            return None, *_backward(ctx.shape, inputs, saved[ctx.n_parts :], grad.contiguous(), later)


def _inputs(parts: Sequence[Any]) -> Inputs:
    content, keys, values, bias, query, weight, word_keys, *relative = parts
    place = Place(query, weight, word_keys, Relative(*relative)) if query is not None else None
    return Inputs(content, keys, values, bias, place)


def _forward(s: Shape, x: Inputs, kept: list[Tensor] | None) -> Tensor:
    """Mixed values; the attention weights [n*H, I, L] of each group go into `kept` where one is given."""
    mixed = torch.empty_like(x.content)
    term = PositionTerm(s, x.place) if x.place is not None else None
    for posts in _groups(s, mixed.device):
        query, keys, values = (_by_head(s, rows, posts) for rows in x[:3])
        if term is None:
            scores = query @ keys.transpose(1, 2)
        else:
            scores = term.scores(posts).flatten(0, 1).baddbmm_(query, keys.transpose(1, 2))
        if x.bias is not None:
            scores.view(len(posts), s.heads, -1, s.cells).add_(x.bias[posts.start : posts.stop])
        weights = scores.softmax(dim=-1)
        _put(s, mixed, posts, weights @ values)
        if kept is not None:
            kept.append(weights)
    return mixed


def _backward(
    s: Shape, x: Inputs, kept: Sequence[Tensor], grad: Tensor, later: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    d_content, d_keys, d_values = (torch.empty_like(rows) for rows in x[:3])
    term = PositionGradient(s, x.place, later) if x.place is not None else None
    for posts, weights in zip(_groups(s, grad.device), kept, strict=True):
        query, keys, values = (_by_head(s, rows, posts) for rows in x[:3])
        d_mixed = _by_head(s, grad, posts)
        _put(s, d_values, posts, weights.transpose(1, 2) @ d_mixed)
        d_weights = d_mixed @ values.transpose(1, 2)
        d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        _put(s, d_content, posts, d_scores @ keys)
        _put(s, d_keys, posts, d_scores.transpose(1, 2) @ query)
        if term is not None:
            term.add(posts, d_scores.view(len(posts), s.heads, -1, s.cells))
    gradients = term.gradients() if term is not None else (None,) * 7
    return d_content, d_keys, d_values, None, *gradients


def _groups(s: Shape, device: torch.device) -> list[range]:
    step = max(1, CHUNK_ROWS // s.text if device.type == "cpu" else s.posts)
    return [range(start, min(start + step, s.posts)) for start in range(0, s.posts, step)]


def _cells(s: Shape, rows: Tensor, posts: range) -> list[Tensor]:
    """Views of the rows of some posts: text [n, H, T, C], then objects [n, H, M, C] where there are any."""
    parts = [rows[s.text_of(posts)].view(len(posts), s.text, s.heads, -1)]
    if len(rows) > s.text_rows:
        parts.append(rows[s.text_rows :][s.objects_of(posts)].view(len(posts), s.objects, s.heads, -1))
    return [part.transpose(1, 2) for part in parts]


def _by_head(s: Shape, rows: Tensor, posts: range) -> Tensor:
    """Rows of some posts as [n*H, I, C], contiguous."""
    return torch.cat(_cells(s, rows, posts), dim=2).flatten(0, 1)


def _put(s: Shape, rows: Tensor, posts: range, by_head: Tensor) -> None:
    """The way back: [n*H, I, C] into the rows of some posts."""
    views = _cells(s, rows, posts)
    parts = by_head.view(len(posts), s.heads, *by_head.shape[1:]).split([view.shape[2] for view in views], dim=2)
    for view, part in zip(views, parts, strict=True):
        view.copy_(part)

"""Flat multi-modal interaction (Eq. 3-12): a Transformer over the flat lattice of text cells and visual objects.

The results are exact, but no tensor holds every pair of text cells times the width:

- The distance of two text cells depends on i - j alone, so their R (Eq. 9) is a table of 2T - 1 rows.
- W_r acts on a concatenation, so it splits into four D x D blocks, and R_ij = ReLU(t_hh[d_hh] + t_ht[d_ht] + t_th[d_th]
  + t_tt[d_tt]) with one table per block. A text cell has head = tail, so pairs with one text cell need two tables.
- For pairs with an object, W_kR acts on the query: ((q_i + v)^T W_kR) . R_ij, one D x D product per query for all keys.
- The backward pass is written out; of the forward pass only the attention weights are kept.

A text sequence is `[CLS] w1 .. wn [SEP]`; a cell's position is its index there. A text cell has head = tail = position,
an object has the positions of the first and the last word that it stands at.

Letters: B posts, T text cells, M objects, L = T + M cells, H heads, D width, C = D / H, W = 2T - 1 distances; n posts
of a group; I queries of a post: L, or T if only text is asked for; J keys. "Rows" are cells of all posts, one after
the other: the text cells of all posts, then the objects of all posts, so that a linear map is one product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kernels import linear_2d, per_head
from schema.errors import DataError

# Sizes of what is computed at once on a CPU, so that it stays in the cache. At D = 512, H = 8:
LOOK_UP_ROWS = 2048  # rows of R: 4 MB
ATTENTION_ROWS = 512  # text rows of a group of posts in attention: their products with W_kR have 8 MB
STACK_ROWS = 1024  # text rows that pass through all layers together, without gradient


# Positions (Section 3.1)


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
    """Sinusoids of the distances in a sequence, row r for distance r - (n_text - 1): float64 [2 n_text - 1, dim]."""
    return sinusoid(torch.arange(1 - n_text, n_text, device=device), dim)


class Sinusoids:
    """Keeps the last position table until a longer text, another dtype or another device needs a new one."""

    def __init__(self, dim: int) -> None:
        self.dim, self._table = dim, torch.empty(0, dim)

    def __call__(self, n_text: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Sinusoids of the distances 1 - n_text .. n_text - 1: [2 n_text - 1, dim], rounded once from float64."""
        table = self._table
        if len(table) < 2 * n_text - 1 or (table.dtype, table.device) != (dtype, device):
            with torch.inference_mode(False):  # a table made in inference mode could not serve training
                table = self._table = position_table(n_text, self.dim, device).to(dtype)
        spare = (len(table) + 1) // 2 - n_text
        return table[spare : len(table) - spare]


# R of Eq. 9


class Tables(NamedTuple):
    """The summands of R, by distance; one set serves all posts of at most T text cells.

    In the precision of the weights: sums that nearly cancel decide on which side of the ReLU an entry falls.
    """

    words: Tensor  # [W, D]: R between text cells, row r for distance T-1-r
    blocks: tuple[Tensor, ...] = ()  # hh, ht, th, tt: [W, D] each, row r for distance r-(T-1); () for text only


class Relative(NamedTuple):
    """R, shared by all layers; None: not needed."""

    words: Tensor  # [W, D], row r: distance T-1-r between two text cells
    word_object: Tensor | None = None  # [B*T, M, D]: text query, object key
    object_word: Tensor | None = None  # [B*M, T, D]
    object_object: Tensor | None = None  # [B*M, M, D]


def tables_of(weight: Tensor, sinusoids: Tensor, with_objects: bool) -> Tables:
    """W_r [D, 4D] applied, block by block, to sinusoids [W, D]."""
    dim = weight.shape[0]
    blocks = weight.view(dim, 4, dim)
    if not with_objects:
        return Tables(torch.relu(linear_2d(sinusoids, blocks.sum(1))).flip(0))
    parts = linear_2d(sinusoids, blocks.transpose(0, 1).reshape(4 * dim, dim)).chunk(4, dim=1)
    return Tables(torch.relu(parts[0] + parts[1] + parts[2] + parts[3]).flip(0), parts)


def relative_rows(tables: Tables, spans: Tensor, of_objects: bool, dtype: torch.dtype) -> Relative:
    """Eq. 9 for spans int64 [B, M, 2] in 0..T-1, at padding too; `of_objects`: whether objects are queries as well;
    `dtype` is that of the result."""
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
    flat = [table.contiguous() for table in tables] + [index.reshape(-1) for index in indices]
    return _LookUp.apply(dtype, len(tables), *flat)


class _LookUp(torch.autograd.Function):
    """Works in chunks, so that no sum goes through main memory; autograd would keep a mask and each summand."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, n_tables: int, *parts: Tensor) -> Tensor:
        tables, indices = parts[:n_tables], parts[n_tables:]
        rows = tables[0].new_empty(len(indices[0]), tables[0].shape[1], dtype=dtype)
        in_place = dtype == tables[0].dtype
        for at in _chunks(rows):
            total = rows[at] if in_place else torch.empty_like(rows[at], dtype=tables[0].dtype)
            torch.index_select(tables[0], 0, indices[0][at], out=total)
            for table, index in zip(tables[1:], indices[1:], strict=True):
                total += table.index_select(0, index[at])
            total.relu_()
            if not in_place:
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
            through_relu = torch.ops.aten.threshold_backward(grad[at], rows[at], 0).to(dtype)
            for total, index in zip(grads, indices, strict=True):
                total.index_add_(0, index[at], through_relu)
        return None, None, *grads, *(None for _ in indices)


def _chunks(rows: Tensor) -> list[slice]:
    step = LOOK_UP_ROWS if rows.device.type == "cpu" else max(1, rows.shape[0])
    return [slice(start, start + step) for start in range(0, rows.shape[0], step)]


# The position term of Eq. 10, (q_i + v)^T W_kR R_ij, and its gradients, by groups of posts


class Shape(NamedTuple):
    """Sizes of a batch."""

    posts: int
    text: int
    objects: int
    heads: int

    @property
    def cells(self) -> int:
        return self.text + self.objects

    @property
    def text_rows(self) -> int:
        return self.posts * self.text

    def text_of(self, posts: range) -> slice:
        """Text rows of some posts."""
        return slice(posts.start * self.text, posts.stop * self.text)

    def objects_of(self, posts: range) -> slice:
        """Object rows of some posts, counted from the first object row."""
        return slice(posts.start * self.objects, posts.stop * self.objects)


class PositionInputs(NamedTuple):
    """What the position term of one layer reads."""

    query: Tensor  # (q + v) / sqrt(C): rows [B*T + B*M, D], or [B*T, D] for text queries only
    weight: Tensor  # [D, D]: W_kR
    word_keys: Tensor  # [W, D]: W_kR applied to relative.words
    relative: Relative


class PositionTerm:
    """The term of one layer."""

    def __init__(self, shape: Shape, inputs: PositionInputs) -> None:
        query, weight, word_keys, self.relative = inputs
        self.shape = shape
        self.of_text, self.of_objects = query[: shape.text_rows], query[shape.text_rows :]
        self.weight = weight.view(shape.heads, -1, weight.shape[1])  # [H, C, D]
        self.to_relative = self.weight.transpose(1, 2).contiguous()  # [H, D, C]
        self.words = word_keys.view(len(word_keys), shape.heads, -1).transpose(0, 1).contiguous()  # [H, W, C]

    def scores(self, posts: range) -> Tensor:
        """The term for all pairs of some posts: [n, H, I, L], contiguous."""
        s, relative, n = self.shape, self.relative, self.shape.text
        text, objects = s.text_of(posts), s.objects_of(posts)
        n_queries = s.cells if len(self.of_objects) else n
        scores = self.of_text.new_empty(len(posts), s.heads, n_queries, s.cells)
        scores[:, :, :n, :n] = shifted(per_head(self.of_text[text], self.words), n)
        if relative.word_object is not None:
            mapped = per_head(self.of_text[text], self.to_relative)  # [n*T, H, D]
            scores[:, :, :n, n:] = _by_post(mapped @ relative.word_object[text].transpose(1, 2), n)
        if n_queries > n:
            assert relative.object_word is not None
            assert relative.object_object is not None
            mapped = per_head(self.of_objects[objects], self.to_relative)  # [n*M, H, D]
            scores[:, :, n:, :n] = _by_post(mapped @ relative.object_word[objects].transpose(1, 2), s.objects)
            scores[:, :, n:, n:] = _by_post(mapped @ relative.object_object[objects].transpose(1, 2), s.objects)
        return scores


class PositionGradient(PositionTerm):
    """The gradients of the term, summed over groups of posts.

    `later` holds the gradients of R from the layers above, None where there are none: this layer adds to them.
    """

    def __init__(self, shape: Shape, inputs: PositionInputs, later: Sequence[Tensor | None]) -> None:
        super().__init__(shape, inputs)
        self.words_back = self.words.transpose(1, 2).contiguous()  # [H, C, W]
        self.d_query = torch.empty_like(inputs.query)
        self.d_weight, self.d_words = torch.zeros_like(self.weight), torch.zeros_like(self.words)
        n_parts = 3 if len(self.of_objects) else 1  # text queries need one part of R only
        self.adds = [total is not None for total in later]
        self.d_relative = [
            torch.empty_like(part) if part is not None and total is None and number < n_parts else total
            for number, (part, total) in enumerate(zip(self.relative[1:], later, strict=True))
        ]

    def add(self, posts: range, d_scores: Tensor) -> None:
        """Add the gradients for d_scores [n, H, I, L], the gradient of `scores(posts)`."""
        s, n = self.shape, self.shape.text
        text, objects = s.text_of(posts), s.objects_of(posts)
        query = self.of_text[text]
        raw = query.new_zeros(len(query), s.heads, 2 * n - 1)
        shifted(raw, n).copy_(d_scores[:, :, :n, :n])
        d_query = per_head(raw.flatten(1), self.words_back)  # [n*T, H, C]
        self.d_words += raw.permute(1, 2, 0) @ self._by_head(query)
        if s.objects:
            d_query = d_query + self._add_pairs(query, text, [d_scores[:, :, :n, n:]], [0])
        self.d_query[text] = d_query.flatten(1)
        if d_scores.shape[2] > n:
            rest = d_scores[:, :, n:]
            d_query = self._add_pairs(self.of_objects[objects], objects, [rest[..., :n], rest[..., n:]], [1, 2])
            self.d_query[s.text_rows :][objects] = d_query.flatten(1)

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Of query, weight and word_keys, then of the four parts of R (that of its words flows through word_keys)."""
        d_words = self.d_words.transpose(0, 1).flatten(1)
        return self.d_query, self.d_weight.flatten(0, 1), d_words, None, *self.d_relative

    def _add_pairs(self, query: Tensor, rows: slice, d_scores: list[Tensor], parts: list[int]) -> Tensor:
        """Pairs with an object: d_scores [n, H, I', J] for each part of R that these queries read.

        Returns the gradient of query, [N, H, C], and adds the others.
        """
        mapped = per_head(query, self.to_relative)  # [N, H, D]; keeping it would cost more than computing it again
        d_mapped = torch.empty_like(mapped)
        for is_first, d, part in zip((True, False), d_scores, parts, strict=False):
            relative, total = self.relative[1 + part], self.d_relative[part]
            assert relative is not None
            assert total is not None
            d = d.transpose(1, 2).reshape(len(query), self.shape.heads, -1)  # [N, H, J]
            d_mapped.baddbmm_(d, relative[rows], beta=0 if is_first else 1)
            total[rows].baddbmm_(d.transpose(1, 2), mapped, beta=1 if self.adds[part] else 0)
        self.d_weight += self._by_head(query).transpose(1, 2) @ d_mapped.transpose(0, 1)
        return per_head(d_mapped.flatten(1), self.weight)

    def _by_head(self, rows: Tensor) -> Tensor:
        return rows.view(len(rows), self.shape.heads, -1).transpose(0, 1)  # [H, N, C]


def shifted(raw: Tensor, n: int) -> Tensor:
    """View [N/n, H, n, n] of raw [N, H, 2n-1]: query i of a post and key j are at raw[i, :, n - 1 - (i - j)]."""
    size = (raw.shape[0] // n, raw.shape[1], n, n)
    strides = (n * raw.stride(0), raw.stride(1), raw.stride(0) - raw.stride(2), raw.stride(2))
    return raw[:, :, n - 1 :].as_strided(size, strides)


def _by_post(scores: Tensor, n_queries: int) -> Tensor:
    """[n * I', H, J] -> [n, H, I', J]."""
    return scores.view(-1, n_queries, *scores.shape[1:]).transpose(1, 2)


# Attention (Eq. 10-11)


class AttentionInputs(NamedTuple):
    """What one layer's attention reads, all of one dtype."""

    content: Tensor  # (q + u) / sqrt(C): rows [B*T + B*M, D], or [B*T, D] for text queries only
    keys: Tensor  # rows [B*T + B*M, D]
    values: Tensor  # rows [B*T + B*M, D]
    bias: Tensor | None = None  # [B, 1, 1, L]: 0 = real, very negative = padding; no gradient
    position: PositionInputs | None = None  # None: no position term


def attend(shape: Shape, inputs: AttentionInputs) -> tuple[Tensor, Relative | None]:
    """Eq. 10-11: the mixed values of all heads, rows as `content`; and R, to hand to the next layer.

    Layers pass R on, so that in the backward pass its gradient is one buffer that every layer adds to, not a new
    tensor of that size per layer.
    """
    position = inputs.position
    with torch.autocast(inputs.keys.device.type, enabled=False):
        if not torch.is_grad_enabled():
            return _forward(shape, inputs, None), position.relative if position is not None else None
        if position is None:
            return _Attend.apply(shape, *inputs[:4], *(None,) * 7)[0], None
        mixed, *across = _Attend.apply(shape, *inputs[:4], *position[:3], *position.relative)
        return mixed, Relative(position.relative.words, *across)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shape: Shape, *parts: Any) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        weights: list[Tensor] = []
        mixed = _forward(shape, _unflatten(parts), weights)
        ctx.shape, ctx.n_parts = shape, len(parts)
        ctx.save_for_backward(*parts, *weights)
        return mixed, *parts[-3:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *later: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):
            inputs = _unflatten(saved[: ctx.n_parts])
            return None, *_backward(ctx.shape, inputs, saved[ctx.n_parts :], grad.contiguous(), later)


def _unflatten(parts: Sequence[Any]) -> AttentionInputs:
    content, keys, values, bias, query, weight, word_keys, *relative = parts
    position = PositionInputs(query, weight, word_keys, Relative(*relative)) if query is not None else None
    return AttentionInputs(content, keys, values, bias, position)


def _forward(s: Shape, x: AttentionInputs, kept: list[Tensor] | None) -> Tensor:
    """Mixed values; appends the attention weights [n*H, I, L] of each group to `kept`, if given."""
    mixed = torch.empty_like(x.content)
    term = PositionTerm(s, x.position) if x.position is not None else None
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
    s: Shape, x: AttentionInputs, kept: Sequence[Tensor], grad: Tensor, later: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Gradients of what `_Attend.forward` takes; `later` as in PositionGradient."""
    d_content, d_keys, d_values = (torch.empty_like(rows) for rows in x[:3])
    term = PositionGradient(s, x.position, later) if x.position is not None else None
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
    step = max(1, ATTENTION_ROWS // s.text if device.type == "cpu" else s.posts)
    return [range(start, min(start + step, s.posts)) for start in range(0, s.posts, step)]


def _cells(s: Shape, rows: Tensor, posts: range) -> list[Tensor]:
    """Views of the rows of some posts: text [n, H, T, C], then objects [n, H, M, C] if there are any."""
    parts = [rows[s.text_of(posts)].view(len(posts), s.text, s.heads, -1)]
    if len(rows) > s.text_rows:
        parts.append(rows[s.text_rows :][s.objects_of(posts)].view(len(posts), s.objects, s.heads, -1))
    return [part.transpose(1, 2) for part in parts]


def _by_head(s: Shape, rows: Tensor, posts: range) -> Tensor:
    """Rows of some posts as [n*H, I, C], contiguous."""
    return torch.cat(_cells(s, rows, posts), dim=2).flatten(0, 1)


def _put(s: Shape, rows: Tensor, posts: range, by_head: Tensor) -> None:
    """The inverse of `_by_head`: writes [n*H, I, C] into the rows of some posts."""
    views = _cells(s, rows, posts)
    parts = by_head.view(len(posts), s.heads, *by_head.shape[1:]).split([view.shape[2] for view in views], dim=2)
    for view, part in zip(views, parts, strict=True):
        view.copy_(part)


# Layers


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
        hidden = linear_2d(cells.flatten(0, 1), first.weight, first.bias, relu=True)
        return linear_2d(hidden, self.shared.weight, self.shared.bias).view(*cells.shape[:2], self.shared.out_features)


class LayerWeights(NamedTuple):
    """What a layer's attention derives from its parameters, once per call; None without a position term."""

    query: Tensor  # [D, D]: W_q / sqrt(C)
    content_bias: Tensor | None = None  # [D]: u / sqrt(C)
    bias_step: Tensor | None = None  # [D]: (v - u) / sqrt(C)
    position_key: Tensor | None = None  # [D, D]: W_kR
    word_keys: Tensor | None = None  # [W, D]: W_kR applied to R between text cells


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

    def weights(self, words: Tensor | None) -> LayerWeights:
        """`words` is R between text cells, [W, D], in the dtype of products; None without position terms."""
        query = self.query.weight * self.scale
        if words is None:
            return LayerWeights(query)
        content, position = self.content_bias.flatten() * self.scale, self.position_bias.flatten() * self.scale
        key = self.key_position.weight
        return LayerWeights(query, content, (position - content).to(words), key.to(words), linear_2d(words, key))

    def forward(
        self,
        rows: Tensor,
        weights: LayerWeights,
        shape: Shape,
        bias: Tensor | None,
        relative: Relative | None,
        text_only: bool,
    ) -> tuple[Tensor, Relative | None]:
        """rows [B*T + B*M, D] -> the same, or [B*T, D] with `text_only`; and R, for the next layer."""
        queries = rows[: shape.text_rows] if text_only else rows
        keys, values = linear_2d(rows, self.key_content.weight), linear_2d(rows, self.value.weight)
        content = linear_2d(queries, weights.query, weights.content_bias)
        position, (_, _, step, key, word_keys) = None, weights
        if relative is not None and step is not None and key is not None and word_keys is not None:
            position = PositionInputs(content + step, key, word_keys, relative)
        mixed, relative = attend(shape, AttentionInputs(content, keys, values, bias, position))
        return linear_2d(mixed, self.output.weight), relative


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
        weights: LayerWeights,
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
        hidden = linear_2d(rows, first.weight, first.bias, relu=True)
        return linear_2d(hidden, last.weight, last.bias)


class Lattice(NamedTuple):
    """The arguments of `FlatInteraction.forward`."""

    text: Tensor  # [B, T, D]
    text_mask: Tensor  # bool [B, T], True = real
    objects: Tensor  # [B, M, D]
    spans: Tensor  # int64 [B, M, 2]
    object_mask: Tensor  # bool [B, M], True = real

    def group(self, start: int, n_posts: int) -> Lattice:
        return Lattice(*(part[start : start + n_posts] for part in self))


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
        return self._run(Lattice(text, text_mask, objects, spans, object_mask), text_only=False)

    def forward_text(
        self, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor
    ) -> Tensor:
        """As `forward`, text only: [B, T, dim]; the last layer computes nothing that only objects need."""
        return self._run(Lattice(text, text_mask, objects, spans, object_mask), text_only=True)[0]

    def _run(self, lattice: Lattice, text_only: bool) -> tuple[Tensor, Tensor]:
        kind, (n_posts, n_text, _) = lattice.text.device.type, lattice.text.shape
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else lattice.text.dtype
        tables = self._tables(n_text, lattice.objects.shape[1] > 0, dtype)
        weights = [layer.attention.weights(tables.words if tables else None) for layer in self._layers()]
        step = max(1, STACK_ROWS // n_text)
        if torch.is_grad_enabled() or kind != "cpu" or n_posts <= step:
            return self._stack(lattice, tables, weights, dtype, text_only)
        groups = [
            self._stack(lattice.group(at, step), tables, weights, dtype, text_only) for at in range(0, n_posts, step)
        ]
        text, objects = zip(*groups, strict=True)
        return torch.cat(text), torch.cat(objects)

    def _stack(
        self, lattice: Lattice, tables: Tables | None, weights: list[LayerWeights], dtype: torch.dtype, text_only: bool
    ) -> tuple[Tensor, Tensor]:
        """All layers; with `text_only` the objects are returned as they came."""
        text, text_mask, objects, spans, object_mask = lattice
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
        """In the precision of the weights, under autocast too: sinusoids of long distances need it. R between text
        cells, which goes straight into products, has `dtype`."""
        if self.position is None:
            return None
        weight = self.position.weight
        with torch.autocast(weight.device.type, enabled=False):
            sinusoids = self.sinusoids(n_text, weight.dtype, weight.device)
            tables = tables_of(weight, sinusoids, with_objects)
        return tables._replace(words=tables.words.to(dtype))


def _may_read_values(x: Tensor) -> bool:
    """Whether the code may branch on values: a GPU would wait for them, and a compiled graph would break."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _checked(spans: Tensor, object_mask: Tensor, n_text: int) -> Tensor:
    """Spans with zeros at padding. Where values may not be read, a wrong span fails in the look-up of R."""
    spans = spans.masked_fill(~object_mask[..., None], 0)
    if _may_read_values(spans) and spans.numel() and not 0 <= int(spans.min()) <= int(spans.max()) < n_text:
        raise DataError(
            "an object's span lies outside the text",
            found=f"positions {int(spans.min())}..{int(spans.max())} of {n_text} text cells",
        )
    return spans


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """What is added to the scores of each key, [B, 1, 1, L]; None if values may be read and nothing is padding."""
    if _may_read_values(mask) and bool(mask.all()):
        return None
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill_(~mask, torch.finfo(dtype).min / 2)[:, None, None]

"""Flat multi-modal interaction (Eq. 3-12): a Transformer over the flat lattice of text cells and visual objects.

The results are exact, but no tensor holds every pair of text cells times the width:

- The distance of two text cells depends on i - j only, so their R (Eq. 9) is a table of 2T - 1 rows.
- W_r acts on a concatenation, so it splits into four D x D blocks, and R_ij = ReLU(t_hh[d_hh] + t_ht[d_ht] + t_th[d_th]
  + t_tt[d_tt]) with one table per block. A text cell has head = tail, so pairs with one text cell need two tables.
- For pairs with an object, W_kR acts on the query: ((q_i + v)^T W_kR) . R_ij, one D x D product per query for all keys.
- The backward pass is written by hand; of the forward pass it needs only the attention weights.

A text sequence is `[CLS] w1 .. wn [SEP]`; a cell's position is its index there. A text cell has head = tail = position,
an object has the positions of the first and the last word of its phrase.

Letters: B posts, T text cells, M objects, L = T + M cells, H heads, D width, C = D / H, W = 2T - 1 distances; n posts
of a group; I queries of a post: L, or T for text only; J keys. "Rows" are the cells of all posts: first all text
cells, then all objects, so that a linear map is one product.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kernels import linear, linear_2d, may_read_values, per_head
from schema.errors import DataError

# Sizes of what is computed at once on a CPU, so that it stays in the cache. At D = 512, H = 8:
LOOK_UP_ROWS = 2048  # rows of R: 4 MB
ATTENTION_ROWS = 512  # text rows of a group of posts in attention: their products with W_kR have 8 MB
STACK_ROWS = 1024  # text rows that pass through all layers together, without gradient


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


class Sinusoids:
    """Caches the last position table until a longer text, another dtype or another device needs a new one."""

    def __init__(self, dim: int) -> None:
        self.dim, self._table = dim, torch.empty(0, dim)

    def __call__(self, n_text: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Sinusoids of the distances 1 - n_text .. n_text - 1: [2 n_text - 1, dim], rounded once from float64."""
        table = self._table
        if len(table) < 2 * n_text - 1 or (table.dtype, table.device) != (dtype, device):
            with torch.inference_mode(False):  # a table made in inference mode could not serve training
                table = sinusoid(torch.arange(1 - n_text, n_text, device=device), self.dim).to(dtype)
                self._table = table
        spare = (len(table) + 1) // 2 - n_text
        return table[spare : len(table) - spare]


class Relative(NamedTuple):
    """R of the pairs with an object, shared by all layers; None: not needed."""

    word_object: Tensor | None = None  # [B*T, M, D]: text query, object key
    object_word: Tensor | None = None  # [B*M, T, D]
    object_object: Tensor | None = None  # [B*M, M, D]


def tables_of(weight: Tensor, sinusoids: Tensor, with_objects: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The summands of R by distance, from W_r [D, 4D] and sinusoids [W, D]; they serve all posts of at most T cells.

    Returns R between text cells, [W, D] with row r for distance T-1-r, and the blocks hh, ht, th, tt, [W, D] each with
    row r for distance r-(T-1); () for text only. All in the precision of the weights: sums that nearly cancel decide on
    which side of the ReLU an entry falls.
    """
    dim = weight.shape[0]
    blocks = weight.view(dim, 4, dim)
    if not with_objects:
        return torch.relu(linear_2d(sinusoids, blocks.sum(1))).flip(0), ()
    parts = linear_2d(sinusoids, blocks.transpose(0, 1).reshape(4 * dim, dim)).chunk(4, dim=1)
    return torch.relu(parts[0] + parts[1] + parts[2] + parts[3]).flip(0), parts


def relative_rows(blocks: tuple[Tensor, ...], spans: Tensor, of_objects: bool, dtype: torch.dtype) -> Relative:
    """Eq. 9 in `dtype` for spans int64 [B, M, 2], in 0..T-1 at padding too; `of_objects`: objects are queries too.

    Raises DataError for spans outside the text if values can be inspected; under compilation an index error follows.
    """
    if not blocks:
        return Relative()
    (hh, ht, th, tt), n_objects = blocks, spans.shape[1]
    dim, zero = hh.shape[1], len(hh) // 2  # `zero` is the row of distance 0, T - 1
    if may_read_values(spans) and not 0 <= int(spans.min()) <= int(spans.max()) <= zero:
        found = f"positions {int(spans.min())}..{int(spans.max())} of {zero + 1} text cells"
        raise DataError("an object's span lies outside the text", found=found)
    cells, head, tail = torch.arange(zero + 1, device=spans.device), spans[..., 0], spans[..., 1]
    from_head, from_tail = cells[:, None] - head[:, None] + zero, cells[:, None] - tail[:, None] + zero  # [B, T, M]
    word_object = look_up([hh + th, ht + tt], [from_head, from_tail], dtype).view(-1, n_objects, dim)
    if not of_objects:
        return Relative(word_object)
    from_head, from_tail = head[..., None] - cells + zero, tail[..., None] - cells + zero  # [B, M, T]
    object_word = look_up([hh + ht, th + tt], [from_head, from_tail], dtype).view(-1, zero + 1, dim)
    pairs = [distance + zero for distance in distances(spans, spans)]  # [B, M, M] each
    object_object = look_up([hh, ht, th, tt], pairs, dtype).view(-1, n_objects, dim)
    return Relative(word_object, object_word, object_object)


def look_up(tables: Sequence[Tensor], indices: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """ReLU of the sum of table rows: tables [P, D] and as many indices int64 [...] -> [N, D] of `dtype`."""
    flat = [table.contiguous() for table in tables] + [index.reshape(-1) for index in indices]
    return _LookUp.apply(dtype, len(tables), *flat)


class _LookUp(torch.autograd.Function):
    """Works in chunks, so that no sum goes through main memory; autograd would save a mask and each summand."""

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


class Shape(NamedTuple):
    """Sizes of a batch, and where a group of posts has its rows."""

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

    def groups(self, device: torch.device) -> list[range]:
        """The posts in groups whose products stay in a CPU's cache; one group on other devices."""
        step = max(1, ATTENTION_ROWS // self.text if device.type == "cpu" else self.posts)
        return [range(start, min(start + step, self.posts)) for start in range(0, self.posts, step)]

    def text_of(self, posts: range) -> slice:
        return slice(posts.start * self.text, posts.stop * self.text)

    def objects_of(self, posts: range) -> slice:
        """Object rows of some posts, counted from the first object row."""
        return slice(posts.start * self.objects, posts.stop * self.objects)

    def views(self, rows: Tensor, posts: range) -> list[Tensor]:
        """The rows of some posts: text [n, H, T, C], then objects [n, H, M, C] if `rows` has any."""
        parts = [rows[self.text_of(posts)].view(len(posts), self.text, self.heads, -1)]
        if len(rows) > self.text_rows:
            objects = rows[self.text_rows :][self.objects_of(posts)]
            parts.append(objects.view(len(posts), self.objects, self.heads, -1))
        return [part.transpose(1, 2) for part in parts]

    def read(self, rows: Tensor, posts: range) -> Tensor:
        """The rows of some posts as [n*H, I, C], contiguous."""
        return torch.cat(self.views(rows, posts), dim=2).flatten(0, 1)

    def write(self, rows: Tensor, posts: range, values: Tensor) -> None:
        """The inverse of `read`: copies values [n*H, I, C] into the rows of some posts."""
        views = self.views(rows, posts)
        parts = values.view(len(posts), self.heads, *values.shape[1:]).split([view.shape[2] for view in views], dim=2)
        for view, part in zip(views, parts, strict=True):
            view.copy_(part)


class AttentionInputs(NamedTuple):
    """What one layer's attention reads, all of one dtype; without `position_query` there is no position term."""

    content: Tensor  # (q + u) / sqrt(C): rows [B*T + B*M, D], or [B*T, D] for text queries only
    keys: Tensor  # rows [B*T + B*M, D]
    values: Tensor  # rows [B*T + B*M, D]
    bias: Tensor | None = None  # [B, 1, 1, L]: 0 = real, very negative = padding; no gradient
    position_query: Tensor | None = None  # (q + v) / sqrt(C): rows as `content`
    position_key: Tensor | None = None  # [D, D]: W_kR
    word_keys: Tensor | None = None  # [W, D]: W_kR applied to R between text cells
    word_object: Tensor | None = None  # these three as in Relative
    object_word: Tensor | None = None
    object_object: Tensor | None = None

    @property
    def relative(self) -> Relative:
        return Relative(self.word_object, self.object_word, self.object_object)


class PositionTerm:
    """The position term of Eq. 10 in one layer: (q_i + v)^T W_kR R_ij."""

    def __init__(self, shape: Shape, x: AttentionInputs) -> None:
        query, weight, words = (cast(Tensor, part) for part in x[4:7])
        self.shape, self.relative = shape, x.relative
        self.of_text, self.of_objects = query[: shape.text_rows], query[shape.text_rows :]
        self.weight = weight.view(shape.heads, -1, weight.shape[1])  # [H, C, D]
        self.to_relative = self.weight.transpose(1, 2).contiguous()  # [H, D, C]
        self.words = words.view(len(words), shape.heads, -1).transpose(0, 1).contiguous()  # [H, W, C]

    def scores(self, posts: range) -> Tensor:
        """The term for all pairs of some posts: [n, H, I, L], contiguous."""
        s, n = self.shape, self.shape.text
        n_queries = s.cells if len(self.of_objects) else n
        scores = self.of_text.new_empty(len(posts), s.heads, n_queries, s.cells)
        query = self.of_text[s.text_of(posts)]
        scores[:, :, :n, :n] = shifted(per_head(query, self.words), n)
        if s.objects:
            self._write_pairs(scores[:, :, :n, n:], query, s.text_of(posts), self.relative[:1])
        if n_queries > n:
            rows = s.objects_of(posts)
            self._write_pairs(scores[:, :, n:], self.of_objects[rows], rows, self.relative[1:])
        return scores

    def _write_pairs(self, scores: Tensor, query: Tensor, rows: slice, relative: Sequence[Tensor | None]) -> None:
        """Pairs with an object: fill scores [n, H, I', J] from the parts of R that these queries read."""
        mapped = per_head(query, self.to_relative)  # [n*I', H, D]
        parts = [part for part in relative if part is not None]
        for part, target in zip(parts, scores.split([part.shape[1] for part in parts], dim=3), strict=True):
            products = mapped @ part[rows].transpose(1, 2)  # [n*I', H, J']
            target.copy_(products.view(len(scores), scores.shape[2], *products.shape[1:]).transpose(1, 2))


class PositionGradient(PositionTerm):
    """The gradients of the term, summed over groups of posts; added to `later`, those of R from the layers above."""

    def __init__(self, shape: Shape, x: AttentionInputs, later: Sequence[Tensor | None]) -> None:
        super().__init__(shape, x)
        self.words_back = self.words.transpose(1, 2).contiguous()  # [H, C, W]
        self.d_query = torch.empty_like(cast(Tensor, x.position_query))
        self.d_weight, self.d_words = torch.zeros_like(self.weight), torch.zeros_like(self.words)
        n_parts = 3 if len(self.of_objects) else 1  # text queries need one part of R only
        self.adds = [total is not None for total in later]
        self.d_relative = [
            torch.empty_like(part) if part is not None and total is None and number < n_parts else total
            for number, (part, total) in enumerate(zip(self.relative, later, strict=True))
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
            d_query = d_query + self._add_pairs(query, text, [d_scores[:, :, :n, n:]], first=0)
        self.d_query[text] = d_query.flatten(1)
        if d_scores.shape[2] > n:
            parts = d_scores[:, :, n:].split([n, s.objects], dim=3)
            d_query = self._add_pairs(self.of_objects[objects], objects, parts, first=1)
            self.d_query[s.text_rows :][objects] = d_query.flatten(1)

    def _add_pairs(self, query: Tensor, rows: slice, d_scores: Sequence[Tensor], first: int) -> Tensor:
        """Pairs with an object: d_scores [n, H, I', J] for the parts of R from number `first` on.

        Returns the gradient of query, [N, H, C], and adds the others.
        """
        mapped = per_head(query, self.to_relative)  # [N, H, D]; storing it would cost more than computing it again
        d_mapped = torch.empty_like(mapped)
        for number, d in enumerate(d_scores, start=first):
            relative, total = cast(Tensor, self.relative[number]), cast(Tensor, self.d_relative[number])
            d = d.transpose(1, 2).reshape(len(query), self.shape.heads, -1)  # [N, H, J]
            d_mapped.baddbmm_(d, relative[rows], beta=0 if number == first else 1)
            total[rows].baddbmm_(d.transpose(1, 2), mapped, beta=1 if self.adds[number] else 0)
        self.d_weight += self._by_head(query).transpose(1, 2) @ d_mapped.transpose(0, 1)
        return per_head(d_mapped.flatten(1), self.weight)

    def _by_head(self, rows: Tensor) -> Tensor:
        return rows.view(len(rows), self.shape.heads, -1).transpose(0, 1)  # [H, N, C]

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Gradients of the fields of AttentionInputs, starting with `position_query`."""
        return self.d_query, self.d_weight.flatten(0, 1), self.d_words.transpose(0, 1).flatten(1), *self.d_relative


def shifted(raw: Tensor, n: int) -> Tensor:
    """View [N/n, H, n, n] of raw [N, H, 2n-1]: query i of a post and key j are at raw[i, :, n - 1 - (i - j)]."""
    size = (raw.shape[0] // n, raw.shape[1], n, n)
    strides = (n * raw.stride(0), raw.stride(1), raw.stride(0) - raw.stride(2), raw.stride(2))
    return raw[:, :, n - 1 :].as_strided(size, strides)


def attend(shape: Shape, x: AttentionInputs) -> tuple[Tensor, Relative]:
    """Eq. 10-11: the mixed values of all heads, rows as `content`; and R, to hand to the next layer.

    Layers pass R on, so that in the backward pass its gradient is one buffer that every layer adds to, not a new
    tensor of that size per layer.
    """
    with torch.autocast(x.keys.device.type, enabled=False):
        if not torch.is_grad_enabled():
            return _mix(shape, x, None), x.relative
        mixed, *relative = _Attend.apply(shape, *x)
        return mixed, Relative(*relative)


def _mix(s: Shape, x: AttentionInputs, saved: list[Tensor] | None) -> Tensor:
    """Mixed values; appends the attention weights [n*H, I, L] of each group to `saved`, if given."""
    mixed = torch.empty_like(x.content)
    term = PositionTerm(s, x) if x.position_query is not None else None
    for posts in s.groups(mixed.device):
        query, keys, values = (s.read(rows, posts) for rows in x[:3])
        if term is None:
            scores = query @ keys.transpose(1, 2)
        else:
            scores = term.scores(posts).flatten(0, 1).baddbmm_(query, keys.transpose(1, 2))
        if x.bias is not None:
            scores.view(len(posts), s.heads, -1, s.cells).add_(x.bias[posts.start : posts.stop])
        weights = scores.softmax(dim=-1)
        s.write(mixed, posts, weights @ values)
        if saved is not None:
            saved.append(weights)
    return mixed


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shape: Shape, *parts: Any) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        x, weights = AttentionInputs(*parts), list[Tensor]()
        mixed = _mix(shape, x, weights)
        ctx.shape = shape
        ctx.save_for_backward(*x, *weights)
        return mixed, *x.relative

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *later: Tensor | None) -> tuple[Tensor | None, ...]:
        s, saved, grad = ctx.shape, ctx.saved_tensors, grad.contiguous()
        n_parts = len(AttentionInputs._fields)
        x = AttentionInputs(*saved[:n_parts])
        d_content, d_keys, d_values = (torch.empty_like(rows) for rows in x[:3])
        with torch.autocast(grad.device.type, enabled=False):
            term = PositionGradient(s, x, later) if x.position_query is not None else None
            for posts, weights in zip(s.groups(grad.device), saved[n_parts:], strict=True):
                query, keys, values = (s.read(rows, posts) for rows in x[:3])
                d_mixed = s.read(grad, posts)
                s.write(d_values, posts, weights.transpose(1, 2) @ d_mixed)
                d_weights = d_mixed @ values.transpose(1, 2)
                d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
                s.write(d_content, posts, d_scores @ keys)
                s.write(d_keys, posts, d_scores.transpose(1, 2) @ query)
                if term is not None:
                    term.add(posts, d_scores.view(len(posts), s.heads, -1, s.cells))
            of_position = term.gradients() if term is not None else (None,) * 6
        return None, d_content, d_keys, d_values, None, *of_position


class Projection(nn.Module):
    """Eq. 1-2: both modalities to one width, through a shared second map."""

    def __init__(self, text_dim: int, object_dim: int, dim: int) -> None:
        super().__init__()
        self.text = nn.Linear(text_dim, dim)
        self.objects = nn.Linear(object_dim, dim)
        self.shared = nn.Linear(dim, dim)

    def forward(self, text: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        """text [B, T, text_dim] and objects [B, M, object_dim], M may be 0, to [B, T, dim] and [B, M, dim]."""
        text = linear(text, self.text.weight, self.text.bias, relu=True)
        objects = linear(objects, self.objects.weight, self.objects.bias, relu=True)
        weight, bias = self.shared.weight, self.shared.bias
        return linear(text, weight, bias), linear(objects, weight, bias)


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
        self, rows: Tensor, n_queries: int, words: Tensor | None, shape: Shape, bias: Tensor | None, relative: Relative
    ) -> tuple[Tensor, Relative]:
        """rows [B*T + B*M, D] -> the first `n_queries` of them, [n_queries, D]; and R, for the next layer.

        `words` is R between text cells, [W, D], in the dtype of products; None without position terms.
        """
        queries = rows[:n_queries] if n_queries < len(rows) else rows
        keys, values = linear_2d(rows, self.key_content.weight), linear_2d(rows, self.value.weight)
        query = self.query.weight * self.scale
        if words is None:
            x = AttentionInputs(linear_2d(queries, query), keys, values, bias)
        else:
            u, v = self.content_bias.flatten() * self.scale, self.position_bias.flatten() * self.scale
            content, key = linear_2d(queries, query, u), self.key_position.weight
            position = content + (v - u).to(words), key.to(words), linear_2d(words, key)
            x = AttentionInputs(content, keys, values, bias, *position, *relative)
        mixed, relative = attend(shape, x)
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

    def forward(self, rows: Tensor, n_queries: int, *others: Any) -> tuple[Tensor, Relative]:
        """As Attention.forward."""
        mixed, relative = self.attention(rows, n_queries, *others)
        rows = self.norm1(rows[:n_queries] + self.dropout(mixed))
        first, _, last = cast(list[nn.Linear], list(self.ffn))
        hidden = linear_2d(rows, first.weight, first.bias, relu=True)
        return self.norm2(rows + self.dropout(linear_2d(hidden, last.weight, last.bias))), relative


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
        padding is finite but arbitrary.
        """
        return self._run([text, text_mask, objects, spans, object_mask], text_only=False)

    def forward_text(
        self, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor
    ) -> Tensor:
        """As `forward`, text only: [B, T, dim]; the last layer computes nothing that only objects need."""
        return self._run([text, text_mask, objects, spans, object_mask], text_only=True)[0]

    def _run(self, lattice: list[Tensor], text_only: bool) -> tuple[Tensor, Tensor]:
        kind, (n_posts, n_text, _) = lattice[0].device.type, lattice[0].shape
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else lattice[0].dtype
        words, blocks = None, tuple[Tensor, ...]()
        if self.position is not None:
            weight = self.position.weight
            with torch.autocast(kind, enabled=False):  # sinusoids of long distances need the weights' precision
                sinusoids = self.sinusoids(n_text, weight.dtype, weight.device)
                words, blocks = tables_of(weight, sinusoids, with_objects=lattice[2].shape[1] > 0)
            words = words.to(dtype)  # it goes straight into products
        step = max(1, STACK_ROWS // n_text)
        if torch.is_grad_enabled() or kind != "cpu" or n_posts <= step:
            return self._stack(lattice, words, blocks, dtype, text_only)
        groups = [
            self._stack([part[at : at + step] for part in lattice], words, blocks, dtype, text_only)
            for at in range(0, n_posts, step)
        ]
        text, objects = zip(*groups, strict=True)
        return torch.cat(text), torch.cat(objects)

    def _stack(
        self, cells: list[Tensor], words: Tensor | None, blocks: tuple[Tensor, ...], dtype: torch.dtype, text_only: bool
    ) -> tuple[Tensor, Tensor]:
        """All layers; with `text_only` the objects are returned as they came."""
        text, text_mask, objects, spans, object_mask = cells
        shape = Shape(text.shape[0], text.shape[1], objects.shape[1], self.heads)
        rows = torch.cat([text.reshape(-1, self.dim), objects.reshape(-1, self.dim)])
        spans = spans.masked_fill(~object_mask[..., None], 0)
        relative = relative_rows(blocks, spans, not text_only or len(self.layers) > 1, dtype)
        mask, bias = torch.cat([text_mask, object_mask], dim=1), None
        if not may_read_values(mask) or not bool(mask.all()):
            bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
            bias = bias.masked_fill_(~mask, torch.finfo(dtype).min / 2)[:, None, None]
        for number, layer in enumerate(self.layers, start=1):
            n_queries = shape.text_rows if text_only and number == len(self.layers) else len(rows)
            rows, relative = layer(rows, n_queries, words, shape, bias, relative)
        text = rows[: shape.text_rows].view_as(text)
        return text, objects if text_only else rows[shape.text_rows :].view_as(objects)

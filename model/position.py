"""The position term of Eq. 10, (q_i + v)^T W_kR R_ij, and its gradients, by groups of posts.

B posts, T text cells, M objects, L = T + M cells, H heads, D width, C = D / H, W = 2T - 1; n posts of a group. Cells
are rows: the text cells of all posts, then the objects of all posts. I query cells a post: L, or T (text only).

- Text on text: R depends on i - j alone, so W_kR acts on its W rows, and a shift by views lays the products out.
- Anything with an object: W_kR acts on the query, ((q_i + v)^T W_kR) . R_ij, one D x D product a query for all keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.gemm import per_head
from model.relative import Relative


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


class Place(NamedTuple):
    """What the position term of one layer reads."""

    query: Tensor  # (q + v) / sqrt(C): rows [B*T + B*M, D], or [B*T, D] for text queries only
    weight: Tensor  # [D, D]: W_kR
    word_keys: Tensor  # [W, D]: W_kR applied to relative.words
    relative: Relative


class PositionTerm:
    """The term of one layer."""

    def __init__(self, shape: Shape, place: Place) -> None:
        query, weight, word_keys, self.relative = place
        self.shape = shape
        self.of_text, self.of_objects = query[: shape.text_rows], query[shape.text_rows :]
        self.weight = weight.view(shape.heads, -1, weight.shape[1])  # [H, C, D]
        self.moving = self.weight.transpose(1, 2).contiguous()  # [H, D, C]
        self.words = word_keys.view(len(word_keys), shape.heads, -1).transpose(0, 1).contiguous()  # [H, W, C]

    def scores(self, posts: range) -> Tensor:
        """The term for all pairs of some posts: [n, H, I, L], contiguous."""
        s, relative, n = self.shape, self.relative, self.shape.text
        text, objects = s.text_of(posts), s.objects_of(posts)
        n_queries = s.cells if len(self.of_objects) else n
        scores = self.of_text.new_empty(len(posts), s.heads, n_queries, s.cells)
        scores[:, :, :n, :n] = shifted(per_head(self.of_text[text], self.words), n)
        if relative.word_object is not None:
            moved = per_head(self.of_text[text], self.moving)  # [n*T, H, D]
            scores[:, :, :n, n:] = _by_post(moved @ relative.word_object[text].transpose(1, 2), n)
        if n_queries > n:
            assert relative.object_word is not None
            assert relative.object_object is not None
            moved = per_head(self.of_objects[objects], self.moving)  # [n*M, H, D]
            scores[:, :, n:, :n] = _by_post(moved @ relative.object_word[objects].transpose(1, 2), s.objects)
            scores[:, :, n:, n:] = _by_post(moved @ relative.object_object[objects].transpose(1, 2), s.objects)
        return scores


class PositionGradient(PositionTerm):
    """Its gradients, summed over groups of posts. `d_relative` goes on with the buffers that a later layer left."""

    def __init__(self, shape: Shape, place: Place, later: Sequence[Tensor | None]) -> None:
        super().__init__(shape, place)
        self.words_back = self.words.transpose(1, 2).contiguous()  # [H, C, W]
        self.d_query = torch.empty_like(place.query)
        self.d_weight, self.d_words = torch.zeros_like(self.weight), torch.zeros_like(self.words)
        n_parts = 3 if len(self.of_objects) else 1  # text queries alone meet one part of R
        self.goes_on = [total is not None for total in later]
        self.d_relative = [
            torch.empty_like(part) if part is not None and total is None and number < n_parts else total
            for number, (part, total) in enumerate(zip(self.relative[1:], later, strict=True))
        ]

    def add(self, posts: range, d_scores: Tensor) -> None:
        """Add what `scores(posts)` owes to d_scores [n, H, I, L]."""
        s, n = self.shape, self.shape.text
        text, objects = s.text_of(posts), s.objects_of(posts)
        query = self.of_text[text]
        raw = query.new_zeros(len(query), s.heads, 2 * n - 1)
        shifted(raw, n).copy_(d_scores[:, :, :n, :n])
        d_query = per_head(raw.flatten(1), self.words_back)  # [n*T, H, C]
        self.d_words += raw.permute(1, 2, 0) @ self._by_head(query)
        if s.objects:
            d_query = d_query + self._across(query, text, [d_scores[:, :, :n, n:]], [0])
        self.d_query[text] = d_query.flatten(1)
        if d_scores.shape[2] > n:
            rest = d_scores[:, :, n:]
            d_query = self._across(self.of_objects[objects], objects, [rest[..., :n], rest[..., n:]], [1, 2])
            self.d_query[s.text_rows :][objects] = d_query.flatten(1)

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Of query, weight and word_keys, then of the four parts of R (its words get theirs through word_keys)."""
        d_words = self.d_words.transpose(0, 1).flatten(1)
        return self.d_query, self.d_weight.flatten(0, 1), d_words, None, *self.d_relative

    def _across(self, query: Tensor, rows: slice, d_scores: list[Tensor], parts: list[int]) -> Tensor:
        """Pairs with an object: d_scores [n, H, I', J] for each part of R that these queries meet. The gradient of
        query [N, H, C]; the others are added."""
        moved = per_head(query, self.moving)  # [N, H, D]; again, since keeping it would cost more than computing it
        d_moved = torch.empty_like(moved)
        for first, d, part in zip((True, False), d_scores, parts, strict=False):
            relative, total = self.relative[1 + part], self.d_relative[part]
            assert relative is not None
            assert total is not None
            d = d.transpose(1, 2).reshape(len(query), self.shape.heads, -1)  # [N, H, J]
            d_moved.baddbmm_(d, relative[rows], beta=0 if first else 1)
            total[rows].baddbmm_(d.transpose(1, 2), moved, beta=1 if self.goes_on[part] else 0)
        self.d_weight += self._by_head(query).transpose(1, 2) @ d_moved.transpose(0, 1)
        return per_head(d_moved.flatten(1), self.weight)

    def _by_head(self, rows: Tensor) -> Tensor:
        return rows.view(len(rows), self.shape.heads, -1).transpose(0, 1)  # [H, N, C]


def shifted(raw: Tensor, n: int) -> Tensor:
    """View [N/n, H, n, n] of raw [N, H, 2n-1]: query i of a post and key j stand at raw[i, :, n - 1 - (i - j)]."""
    size = (raw.shape[0] // n, raw.shape[1], n, n)
    strides = (n * raw.stride(0), raw.stride(1), raw.stride(0) - raw.stride(2), raw.stride(2))
    return raw[:, :, n - 1 :].as_strided(size, strides)


def _by_post(scores: Tensor, n_queries: int) -> Tensor:
    """[n * I', H, J] -> [n, H, I', J]."""
    return scores.view(-1, n_queries, *scores.shape[1:]).transpose(1, 2)

"""The embedded parser's network: MiniLM, a small encoder over words, and a label distribution for every span.

B sentences, P pieces, N words with a marker before and after, W = N - 1 fences between them, D width, K labels.
A span [i, j) is scored from the difference of its two fences, as in Gaddy, Stern & Klein (2018), with a softmax over
labels and "no constituent" (label 0) for each span on its own; the chart then finds the best tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.linear import Linear
from pipeline.phrases.minilm import CLS, SEP, WIDTH, MiniLM

N_SHAPES = 8


@dataclass(frozen=True)
class Size:
    """What a weights file must say to be rebuilt; numbers of units unless named otherwise."""

    minilm_layers: int = 6
    rank: int = 16
    width: int = 256
    layers: int = 2
    hidden: int = 256
    n_labels: int = 34
    n_tags: int = 0  # part-of-speech head, for training only


def shape(word: str) -> int:
    """Letter case and kind of a word, which MiniLM (uncased) cannot see; 0 is kept for markers and padding."""
    if not any(character.isalnum() for character in word):
        return 1
    if any(character.isdigit() for character in word):
        return 2
    if word.islower():
        return 3
    if word.isupper():
        return 4 if len(word) > 1 else 5
    return 6 if word[0].isupper() else 7


@dataclass(frozen=True)
class Inputs:
    """Sentences as tensors: see `SpanNet.words` for shapes and padding."""

    ids: Tensor
    pool: Tensor
    shapes: Tensor


def encode(sentences: Sequence[Sequence[str]], pieces: Sequence[Sequence[tuple[int, ...]]], n_pieces: int) -> Inputs:
    """Sentences with the pieces of their words, padded to `n_pieces` with both markers.

    Words are padded to `n_pieces` too (no sentence has more), so a batch's shape follows from that number alone.
    """
    n_rows = len(sentences)
    ids = np.zeros((n_rows, n_pieces), np.int64)
    pool = np.zeros((n_rows, n_pieces, n_pieces), np.float32)
    shapes = np.zeros((n_rows, n_pieces), np.int64)
    for row, (words, found) in enumerate(zip(sentences, pieces, strict=True)):
        flat = [CLS, *(piece for word in found for piece in word), SEP]
        ids[row, : len(flat)] = flat
        counts = np.array([1, *map(len, found), 1])
        owner = np.repeat(np.arange(len(counts)), counts)
        pool[row, owner, np.arange(len(flat))] = 1.0 / counts[owner]
        shapes[row, 1 : len(words) + 1] = [shape(word) for word in words]
    return Inputs(torch.from_numpy(ids), torch.from_numpy(pool), torch.from_numpy(shapes))


class Block(nn.Module):
    """Pre-norm Transformer layer."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.ffn = nn.Sequential(Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, N, D], mask [B, 1, 1, N] bool (True = real) -> [B, N, D]."""
        parts = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [3, B, H, N, d]
        rate = self.rate if self.training else 0.0
        query, key, value = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout_p=rate)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.ffn(self.norm2(x)))


class SpanNet(nn.Module):
    """Scores of labels for spans. The state dict holds our own weights only, never MiniLM's."""

    def __init__(
        self, size: Size, dropout: float = 0.0, minilm_dropout: float = 0.0, input_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.size = size
        self.minilm = MiniLM(size.minilm_layers, size.rank, minilm_dropout)
        self.mix = nn.Parameter(torch.zeros(size.minilm_layers + 1))
        self.input_dropout = nn.Dropout(input_dropout)
        self.project = Linear(WIDTH, size.width)
        self.shapes = nn.Embedding(N_SHAPES, size.width)
        self.blocks = nn.ModuleList(Block(size.width, 8, dropout) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.before = Linear(size.width, size.hidden, bias=False)
        self.after = Linear(size.width, size.hidden, bias=False)
        self.bias = nn.Parameter(torch.zeros(size.hidden))
        self.hidden_norm = nn.LayerNorm(size.hidden)
        self.dropout = nn.Dropout(dropout)
        self.labels = Linear(size.hidden, size.n_labels)
        self.tags = Linear(size.width, size.n_tags) if size.n_tags else None

    def words(self, ids: Tensor, pool: Tensor, shapes: Tensor) -> Tensor:
        """Contextual vectors [B, N, D].

        ids [B, P] int64, padded with 0; pool [B, N, P] float, row n averages the pieces of word n and is 0 in padding;
        shapes [B, N] int64.
        """
        layers = self.minilm(ids, ids != 0)
        mixed = sum(weight * layer for weight, layer in zip(self.mix.softmax(0), layers, strict=True))
        x = F.layer_norm(pool @ mixed, (WIDTH,))  # [B, N, C]
        x = self.project(self.input_dropout(x)) + self.shapes(shapes)
        mask = (pool.sum(-1) > 0)[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)

    def fences(self, words: Tensor) -> Tensor:
        """words [B, N, D] -> [B, W, hidden]: fence i lies before word i (the marker in front is no word)."""
        return self.before(words[:, :-1]) - self.after(words[:, 1:])

    def spans(self, fences: Tensor, sentence: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Label logits [S, K] of spans [start, end) of fences [B, W, hidden]; index tensors [S] int64."""
        difference = fences[sentence, end] - fences[sentence, start] + self.bias
        return self.labels(self.dropout(F.relu(self.hidden_norm(difference))))

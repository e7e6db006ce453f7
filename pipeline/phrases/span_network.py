"""MiniLM under the embedded parser: the package's weights as they are, low-rank updates of our own on top.

B sentences, P word pieces, C = 384 width, L = 6 layers. Written out here rather than taken from transformers: the
parser needs every layer's output, some layers only, and updates that can be folded into the weights before use; and a
stage that parses posts need not import a model library. A test compares with transformers' BertModel.

The embedded parser's network: MiniLM, a small encoder over words, and a label distribution for every span.

B sentences, P pieces, N words with a marker before and after, W = N - 1 fences between them, D width, K labels.
A span [i, j) is scored from the difference of its two fences, as in Gaddy, Stern & Klein (2018), with a softmax over
labels and "no constituent" (label 0) for each span on its own; the chart then finds the best tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from cache import weights
from cache.model_catalog import MINILM_SHA256
from kernels import Linear, linear
from schema.errors import WeightsError

DIGEST = MINILM_SHA256  # part of the parser's identity
WIDTH, HEADS, FFN, EPS = 384, 12, 1536, 1e-12  # the model's config.json
N_POSITIONS = 512  # word pieces of a text at most
CLS, SEP, PAD = 101, 102, 0  # piece ids of its vocabulary


class Pieces:
    """Word pieces of single words, each word looked up once."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._unknown = self._tokenizer.token_to_id("[UNK]") or 0
        self._known: dict[str, tuple[int, ...]] = {}

    def __call__(self, words: Sequence[str], most: int) -> list[tuple[int, ...]]:
        """At least one and at most `most` piece ids a word; a word that yields none (U+00A0) is the unknown piece."""
        return [self._of(word)[:most] for word in words]

    def _of(self, word: str) -> tuple[int, ...]:
        if word not in self._known:
            if len(self._known) > 200_000:  # bounds memory over a long stream of posts
                self._known.clear()
            ids = self._tokenizer.encode(word[:200], add_special_tokens=False).ids  # over 100 characters are unknown
            self._known[word] = tuple(ids) or (self._unknown,)
        return self._known[word]


class Dense(nn.Module):
    """A frozen linear map W x + b with a trained update: W + up @ down, of rank `rank` (Hu et al. 2021; 0: none)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, n_in: int, n_out: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_out, n_in), persistent=False)
        self.register_buffer("bias", torch.zeros(n_out), persistent=False)
        self.down = nn.Parameter(torch.randn(rank, n_in) * n_in**-0.5)
        self.up = nn.Parameter(torch.zeros(n_out, rank))

    def forward(self, x: Tensor) -> Tensor:
        y = linear(x, self.weight, self.bias)
        return y + linear(linear(x, self.down), self.up) if self.down.shape[0] else y

    def fold(self) -> None:
        """Add the update to the weight and drop it, so that it costs nothing at inference."""
        with torch.no_grad():
            self.weight += self.up @ self.down
            self.down = nn.Parameter(self.down[:0])
            self.up = nn.Parameter(self.up[:, :0])


class Norm(nn.Module):
    """LayerNorm with the package's frozen scale and shift."""

    weight: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(WIDTH), persistent=False)
        self.register_buffer("bias", torch.zeros(WIDTH), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), self.weight, self.bias, EPS)


class Layer(nn.Module):
    """One post-norm Transformer layer of BERT."""

    def __init__(self, rank: int, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (Dense(WIDTH, WIDTH, rank) for _ in range(4))
        self.up, self.down = Dense(WIDTH, FFN, rank), Dense(FFN, WIDTH, rank)
        self.norm1, self.norm2 = Norm(), Norm()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, P, C], mask [B, 1, 1, P] bool (True = real) -> [B, P, C]."""
        shape = (*x.shape[:2], HEADS, WIDTH // HEADS)
        q, k, v = (dense(x).view(shape).transpose(1, 2) for dense in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)  # [B, P, C]
        x = self.norm1(x + self.dropout(self.out(mixed)))
        return self.norm2(x + self.dropout(self.down(F.gelu(self.up(x)))))


class MiniLM(nn.Module):
    """The first `layers` layers of MiniLM; only the low-rank updates are parameters, and only they are saved."""

    words: Tensor
    positions: Tensor

    def __init__(self, layers: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("words", torch.zeros(30522, WIDTH), persistent=False)
        self.register_buffer("positions", torch.zeros(N_POSITIONS, WIDTH), persistent=False)
        self.norm = Norm()
        self.layers = nn.ModuleList(Layer(rank, dropout) for _ in range(layers))

    def forward(self, ids: Tensor, mask: Tensor) -> list[Tensor]:
        """ids [B, P] int64, mask [B, P] bool (True = real) -> the input and every layer's output, [B, P, C] each."""
        x = self.norm(self.words[ids] + self.positions[: ids.shape[1]])
        outputs = [x]
        for layer in self.layers:
            outputs.append(layer(outputs[-1], mask[:, None, None, :]))
        return outputs

    def fold(self) -> None:
        """Make the updates part of the weights; the answers stay, their cost goes."""
        for module in self.modules():
            if isinstance(module, Dense):
                module.fold()

    def load_package(self, path: Path) -> None:
        """Copy the package's weights in; raises WeightsError for another layout."""
        tensors = {name: torch.from_numpy(array) for name, array in weights.load_safetensors(path)[0].items()}
        try:
            _copy(self, tensors)
        except (KeyError, RuntimeError) as error:
            raise WeightsError("not the MiniLM that this parser needs", where=str(path), found=str(error)) from None


def _copy(model: MiniLM, tensors: Mapping[str, Tensor]) -> None:
    kind = tensors["embeddings.token_type_embeddings.weight"][0]  # every piece is of the first segment
    model.words.copy_(tensors["embeddings.word_embeddings.weight"])
    model.positions.copy_(tensors["embeddings.position_embeddings.weight"] + kind)
    _fill(model.norm, tensors, "embeddings.LayerNorm")
    for index, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        at = f"encoder.layer.{index}."
        for name in ("query", "key", "value"):
            _fill(getattr(layer, name), tensors, f"{at}attention.self.{name}")
        _fill(layer.out, tensors, f"{at}attention.output.dense")
        _fill(layer.norm1, tensors, f"{at}attention.output.LayerNorm")
        _fill(layer.up, tensors, f"{at}intermediate.dense")
        _fill(layer.down, tensors, f"{at}output.dense")
        _fill(layer.norm2, tensors, f"{at}output.LayerNorm")


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    module.get_buffer("weight").copy_(tensors[f"{name}.weight"])
    module.get_buffer("bias").copy_(tensors[f"{name}.bias"])


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

"""The embedded parser's network: MiniLM under a small encoder over words, and a label distribution for every span.

MiniLM's weights come from its package; trained low-rank updates change them. A span [i, j) is scored from the
difference of its two fenceposts, as in Gaddy, Stern & Klein (2018), with a softmax over labels and "no constituent"
(label 0) for each span separately; a chart search then finds the best tree.

B sentences, P pieces, C = 384 MiniLM's width, N words with a special token before and after, W = N - 1 fenceposts
between them, D width, K labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bert import Bert, BertConfig
from cache import weights
from cache.models import MINILM_SHA256
from kernels import Linear
from schema.errors import WeightsError

DIGEST = MINILM_SHA256  # part of the parser's identity
WIDTH, HEADS, FFN = 384, 12, 1536  # MiniLM's config.json
N_POSITIONS = 512  # pieces of a text at most
CLS, SEP = 101, 102  # piece ids of its vocabulary; 0 pads
N_REMEMBERED = 200_000  # words whose pieces are kept: bounds memory over a long stream of posts
N_SHAPES = 8  # see `shape`
PARAMETRIZED = "parametrizations.weight"  # in torch's names of a weight with an update
UPDATED = {  # layers with an update: the name in the weights file, and the library's name in a layer of BERT
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}


class Pieces:
    """The ids of words' pieces; each word is looked up once."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._unknown = self._tokenizer.token_to_id("[UNK]") or 0
        self._of = lru_cache(N_REMEMBERED)(self._encode)

    def __call__(self, words: Sequence[str], n_max: int) -> list[tuple[int, ...]]:
        """At least one and at most `n_max` ids a word; a word without a piece (U+00A0) gets the unknown one."""
        return [self._of(word)[:n_max] for word in words]

    def _encode(self, word: str) -> tuple[int, ...]:
        ids = self._tokenizer.encode(word[:200], add_special_tokens=False).ids  # words over 100 characters are unknown
        return tuple(ids) or (self._unknown,)


class Update(nn.Module):
    """A trained update of a frozen weight W to W + up @ down, of low rank (Hu et al., 2021); 0 before training."""

    def __init__(self, n_in: int, n_out: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, n_in) * n_in**-0.5)
        self.up = nn.Parameter(torch.zeros(n_out, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


class MiniLM(nn.Module):
    """The first `layers` layers of MiniLM. Only the low-rank updates are parameters, and only they are saved."""

    def __init__(self, layers: int, rank: int, dropout: float) -> None:
        super().__init__()
        config = BertConfig(
            hidden_size=WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            intermediate_size=FFN,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=0.0,
        )
        bert = Bert(config).requires_grad_(False)
        self._frozen = [bert]  # a list, so that it is no submodule and not in the state dict
        self.layers = nn.ModuleList(nn.ModuleDict() for _ in range(layers))  # updates by name; none for rank 0
        for layer, updates in zip(bert.encoder["layer"].children(), self.layers, strict=True):
            assert isinstance(updates, nn.ModuleDict)
            for name, path in UPDATED.items() if rank else ():
                module = layer.get_submodule(path)
                n_out, n_in = module.get_parameter("weight").shape
                updates[name] = Update(n_in, n_out, rank)
                parametrize.register_parametrization(module, "weight", updates[name])

    def forward(self, ids: Tensor, mask: Tensor) -> list[Tensor]:
        """ids [B, P] int64, mask [B, P] bool (True = real) -> the input and every layer's output, [B, P, C] each."""
        (bert,) = self._frozen
        outputs = [bert.embed(ids)]
        for layer in bert.encoder["layer"].children():
            outputs.append(layer(outputs[-1], mask[:, None, None, :]))
        return outputs

    def train(self, mode: bool = True) -> Self:
        self._frozen[0].train(mode)
        return super().train(mode)

    def fold(self) -> None:
        """Add the updates to the frozen weights: the same answers in less time."""
        for module in list(self._frozen[0].modules()):
            if parametrize.is_parametrized(module):
                parametrize.remove_parametrizations(module, "weight")

    def load_package(self, path: Path) -> None:
        """Copy the package's weights in; raises WeightsError for a different layout."""
        (bert,) = self._frozen
        tensors = weights.load_safetensors(path)[0]
        names = [name for name in bert.state_dict() if f"{PARAMETRIZED}.0." not in name]  # without the updates' own
        try:
            state = {
                name: torch.from_numpy(tensors[name.replace(f"{PARAMETRIZED}.original", "weight")]) for name in names
            }
            bert.load_state_dict(state, strict=False)
        except (KeyError, RuntimeError) as error:
            raise WeightsError("not the MiniLM that this parser needs", where=str(path), found=str(error)) from None


@dataclass(frozen=True)
class Size:
    """The sizes from which a network is rebuilt."""

    minilm_layers: int = 6
    rank: int = 16
    width: int = 256
    layers: int = 2
    hidden: int = 256
    n_labels: int = 34
    n_tags: int = 0  # part-of-speech head, for training only


def shape(word: str) -> int:
    """Letter case and kind of a word, which MiniLM (uncased) cannot see; 0 is for special tokens and padding."""
    if not any(character.isalnum() for character in word):
        return 1
    if any(character.isdigit() for character in word):
        return 2
    if word.islower():
        return 3
    if word.isupper():
        return 4 if len(word) > 1 else 5
    return 6 if word[0].isupper() else 7


def encode(
    sentences: Sequence[Sequence[str]], pieces: Sequence[Sequence[tuple[int, ...]]], n_pieces: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments of `SpanNet.words` for sentences with the pieces of their words.

    Pieces, with both special tokens, are padded to `n_pieces`; words too (no sentence has more), so that number
    determines a batch's shape.
    """
    n_rows = len(sentences)
    ids = np.zeros((n_rows, n_pieces), np.int64)
    pool = np.zeros((n_rows, n_pieces, n_pieces), np.float32)
    shapes = np.zeros((n_rows, n_pieces), np.int64)
    for row, (words, ids_of_words) in enumerate(zip(sentences, pieces, strict=True)):
        flat = [CLS, *(piece for word in ids_of_words for piece in word), SEP]
        ids[row, : len(flat)] = flat
        counts = np.array([1, *map(len, ids_of_words), 1])
        owner = np.repeat(np.arange(len(counts)), counts)
        pool[row, owner, np.arange(len(flat))] = 1.0 / counts[owner]
        shapes[row, 1 : len(words) + 1] = [shape(word) for word in words]
    return torch.from_numpy(ids), torch.from_numpy(pool), torch.from_numpy(shapes)


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
    """Scores of labels for spans. The state dict has the trained weights only, not MiniLM's."""

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
        """words [B, N, D] -> [B, W, hidden]: fencepost i is before word i (the first special token is no word)."""
        return self.before(words[:, :-1]) - self.after(words[:, 1:])

    def spans(self, fences: Tensor, sentence: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Label logits [S, K] of spans [start, end); fences [B, W, hidden], index tensors [S] int64."""
        difference = fences[sentence, end] - fences[sentence, start] + self.bias
        return self.labels(self.dropout(F.relu(self.hidden_norm(difference))))

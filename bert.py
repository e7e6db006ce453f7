"""BERT's encoder (Devlin et al., 2019) for parser and tagger; numbers and weight names are those of transformers.

transformers' models take longer to import than a post to predict. B texts, P pieces of a text, E width.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import Linear


@dataclass(frozen=True)
class BertConfig:
    """The settings in BERT's config.json that affect the output; defaults are those of transformers."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    pad_token_id: int | None = 0
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    model_type: str = "bert"
    hidden_act: str = "gelu"
    is_decoder: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self | None:
        """The settings of a config.json; None for other models and variants."""
        config = cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})
        kind = values.get("model_type"), config.hidden_act, values.get("position_embedding_type", "absolute")
        return config if kind == ("bert", "gelu", "absolute") and not config.is_decoder else None

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json, which transformers reads too."""
        (folder / "config.json").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


class States(NamedTuple):
    last_hidden_state: Tensor  # [B, P, E], named as by transformers


class Bert(nn.Module):
    """BertModel without its pooler. Load weights before use: the initial ones mean nothing."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config, dim = config, config.hidden_size
        self.embeddings = nn.ModuleDict()
        sizes = config.vocab_size, config.max_position_embeddings, config.type_vocab_size
        for name, n_rows in zip(("word", "position", "token_type"), sizes, strict=True):
            padding = config.pad_token_id if name == "word" else None
            table = nn.Embedding.from_pretrained(torch.zeros(n_rows, dim), freeze=False, padding_idx=padding)
            self.embeddings[f"{name}_embeddings"] = table
        self.embeddings["LayerNorm"] = nn.LayerNorm(dim, config.layer_norm_eps)
        with torch.random.fork_rng(devices=()):  # or the other weights of a run would depend on this model's size
            layers = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": layers})

    def embed(self, pieces: Tensor, dropout: float = 0.0) -> Tensor:
        """The input of the first layer for int64 [B, P]: [B, P, E]."""
        of_words, of_positions, of_types, norm = self.embeddings.values()
        first = torch.zeros_like(pieces)  # all pieces are of the first of two texts
        positions = of_positions(torch.arange(pieces.shape[1], device=pieces.device))
        return F.dropout(norm(of_words(pieces) + of_types(first) + positions), dropout, self.training)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> States:
        """int64 [B, P], and bool that broadcasts to [B, 1, P, P], True = real; None: all are."""
        x = self.embed(input_ids, self.config.hidden_dropout_prob)
        for layer in self.encoder["layer"].children():
            x = layer(x, attention_mask)
        return States(x)


class BertLayer(nn.Module):
    """A post-norm Transformer layer, [B, P, E] -> [B, P, E]."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config, dim, inner = config, config.hidden_size, config.intermediate_size
        inputs = nn.ModuleDict({name: Linear(dim, dim) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"self": inputs, "output": self._output(dim)})
        self.intermediate = nn.ModuleDict({"dense": Linear(dim, inner)})
        self.output = self._output(inner)

    def _output(self, n_in: int) -> nn.ModuleDict:
        dim, eps = self.config.hidden_size, self.config.layer_norm_eps
        return nn.ModuleDict({"dense": Linear(n_in, dim), "LayerNorm": nn.LayerNorm(dim, eps)})

    def _add(self, output: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
        dense, norm = output.children()
        return norm(F.dropout(dense(x), self.config.hidden_dropout_prob, self.training) + residual)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """As Bert.forward; x [B, P, E]."""
        shape = *x.shape[:2], self.config.num_attention_heads, -1
        query, key, value = (layer(x).view(shape).transpose(1, 2) for layer in self.attention["self"].children())
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout)
        x = self._add(self.attention["output"], mixed.transpose(1, 2).reshape(x.shape), x)
        return self._add(self.output, F.gelu(self.intermediate["dense"](x)), x)

"""UMGF (Zhang et al. 2021): multi-modal graph fusion with targeted visual guidance; differences: docs/baselines.md.

Nodes are words and grounded objects (of noun phrases and general words, no whole image). Within a modality all nodes
are neighbors; across modalities a word and the objects whose phrase contains it. B posts, N words, M objects, D width.
"""

from typing import cast

import torch
from torch import Tensor, nn

from kernels import Linear
from model.baselines.layers import FeedForward, TransformerLayer
from model.crf import CRF
from model.data import Batch
from model.interaction import sinusoid
from model.tagger import EncoderTagger, ModelSpec


def edges_of(spans: Tensor, word_mask: Tensor, object_mask: Tensor) -> Tensor:
    """Inter-modal edges bool [B, N, M]: object (head, tail) of spans int64 [B, M, 2] touches words head..tail."""
    place = torch.arange(1, word_mask.shape[1] + 1, device=spans.device)[:, None]  # position of a word
    head, tail = spans[:, None, :, 0], spans[:, None, :, 1]
    return (head <= place) & (place <= tail) & word_mask[:, :, None] & object_mask[:, None]


class Gate(nn.Module):
    """Cross-modal gating of one modality (Eq. 3-4 for words, 5-6 for objects)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.own = Linear(dim, dim, bias=False)  # W_1, W_3
        self.other = Linear(dim, dim, bias=False)  # W_2, W_4

    def forward(self, own: Tensor, others: Tensor, edges: Tensor) -> Tensor:
        """own [B, I, D], others [B, J, D], edges bool [B, I, J] -> own_i + sum over its j of alpha_ij * others_j.

        alpha_ij = sigmoid(W own_i + W' others_j): two maps of nodes and a sum, not a map of every pair.
        """
        alpha = torch.sigmoid(self.own(own)[:, :, None] + self.other(others)[:, None])  # [B, I, J, D]
        shares = alpha * others[:, None]
        # sums over j as products with rows of 0 and 1: a quarter of the time of einsum
        return own + torch.matmul(edges.to(shares.dtype)[:, :, None], shares)[:, :, 0]


class Nodes(nn.Module):
    """One modality's part of a fusion layer; words and objects have separate parameters."""

    def __init__(self, dim: int, heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.intra = TransformerLayer(dim, heads, ffn_dim, dropout)  # Eq. 1-2 with the norms of Figure 2
        self.gate = Gate(dim)
        self.ffn = FeedForward(dim, ffn_dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.dropout = nn.Dropout(dropout)

    def inter(self, own: Tensor, others: Tensor, edges: Tensor) -> Tensor:
        """Eq. 3-8, after the contextual representations C."""
        fused = self.gate(own, others, edges)
        return self.norm(fused + self.dropout(self.ffn(fused)))


class Interaction(nn.Module):
    """Projection and the stacked fusion layers."""

    def __init__(
        self, dim: int, heads: int, layers: int, ffn_dim: int, dropout: float, text_dim: int, object_dim: int
    ) -> None:
        super().__init__()
        self.text, self.objects = FeedForward(text_dim, dim, dim), FeedForward(object_dim, dim, dim)  # MLPs
        self.word_nodes, self.object_nodes = (
            nn.ModuleList([Nodes(dim, heads, ffn_dim, dropout) for _ in range(layers)]) for _ in range(2)
        )

    def forward(self, words: Tensor, word_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor) -> Tensor:
        """H_x after the last layer, [B, N, D], which computes nothing that only objects need.

        words [B, N, text_dim], objects [B, M, object_dim] (M may be 0), masks bool, spans int64 [B, M, 2] (head, tail).
        """
        place = sinusoid(torch.arange(1, words.shape[1] + 1, device=words.device), words.shape[2])
        text, visual = self.text(words + place.to(words.dtype)), self.objects(objects)
        edges = edges_of(spans, word_mask, object_mask)
        layers = [cast(list[Nodes], list(nodes)) for nodes in (self.word_nodes, self.object_nodes)]
        for number, (of_words, of_objects) in enumerate(zip(*layers, strict=True), start=1):
            words, objects = of_words.intra(text, text, word_mask), of_objects.intra(visual, visual, object_mask)
            text = of_words.inter(words, objects, edges)
            if number < len(self.word_nodes):
                visual = of_objects.inter(objects, words, edges.transpose(1, 2))
        return text


class UMGF(EncoderTagger):
    """The graph's word nodes through a CRF (Eq. 9-11)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        config, n_tags = spec.config, len(spec.labels.tags)
        shape = (config.width, config.heads, config.layers, config.ffn_dim or config.width // 2, config.dropout)
        self.interaction = Interaction(*shape, self.words.dim, spec.object_dim)
        self.tag = nn.Linear(config.width, n_tags)
        self.crf = CRF(n_tags)

    def emissions(self, batch: Batch) -> Tensor:
        text = self.read(batch)[:, 1:-1]
        objects = self.dropout(batch.objects.to(text.dtype))
        nodes = self.interaction(text, batch.word_mask, objects, batch.spans, batch.object_mask)
        return self.tag(self.dropout(nodes))

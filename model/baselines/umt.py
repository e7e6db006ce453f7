"""UMT (Yu, Jiang, Yang and Xia 2020): unified multimodal Transformer with entity span detection.

Letters: B posts, T text cells, N = T - 2 words, M regions (49 of the 7x7 grid), D the encoder's width, K tags, Z span
tags. As in the paper D, the heads m and the feed-forward width are the encoder's (768, 12, 3072 in BERT-base), and each
stack is one layer.

Where the public code differs, the paper is followed: one projection W_u of the regions (the code has two, with biases),
attention and visual gate without biases, ReLU as in Vaswani et al. (the code: BERT's own activation, GELU), emissions
of both tasks summed (the code takes half of each). Both have one layer a stack, a Transformer layer of its own for each
task over the dropped-out encoder, lambda 0.5, and H without dropout. Ours, where the paper is silent: labels are on
words, so neither CRF sees [CLS] or [SEP] (the code tags both, and X for pieces that begin no word); the conversion
matrix, initialised as the paper says, stays as it is (in the code too); no dropout on attention's shares (the code:
0.1); a post without a picture has no regions, and attention to nothing adds nothing. What is said of the code was read
in it; the paper's text was not at hand for a second look.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.baselines.layers import TransformerLayer, apply
from model.crf import CRF
from model.data import Batch
from model.tagger import EncoderTagger, ModelSpec
from model.words import WordEncoder, build_words

SPAN_TAGS = ("O", "B", "I")  # the labels of entity span detection


def span_ids(tags: Sequence[str]) -> Tensor:
    """Which span tag each tag becomes when its type is taken away: int64 [K]."""
    return torch.tensor([SPAN_TAGS.index(tag[0]) for tag in tags])


def conversion(tags: Sequence[str]) -> Tensor:
    """W^c [Z, K]: 1 / |C_j| for the set C_j of tags that correspond to span tag j, 0 for all others."""
    corresponds = span_ids(tags) == torch.arange(len(SPAN_TAGS))[:, None]
    return corresponds.float() / corresponds.sum(1, keepdim=True).clamp(min=1)


class Interaction(nn.Module):
    """Multimodal interaction module: A, the image-aware word representations, beside B, the word-aware visual ones."""

    def __init__(self, dim: int, heads: int, ffn_dim: int, dropout: float, region_dim: int) -> None:
        super().__init__()

        def layer() -> TransformerLayer:
            return TransformerLayer(dim, heads, ffn_dim, dropout)

        self.regions = nn.Linear(region_dim, dim, bias=False)  # W_u
        self.words = layer()
        self.regions_read_words, self.words_read_those, self.words_read_regions = layer(), layer(), layer()
        self.gate_words = nn.Linear(dim, dim, bias=False)  # W_a
        self.gate_regions = nn.Linear(dim, dim, bias=False)  # W_q

    def forward(self, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor) -> Tensor:
        """text [B, T, D], text_mask bool [B, T], regions [B, M, region_dim], region_mask bool [B, M] -> H [B, T, 2 D].

        V = W_u^T U; R = Transformer(C). Coupling CMT(V, R): P~ = LN(V + MH-CA(V, R)), P = LN(P~ + FFN(P~)).
        Image-aware words A = CMT(R, P) of P = CMT(V, R); word-aware regions Q = CMT(R, V); visual gate
        g = sigmoid(W_a^T A + W_q^T Q), B = g * Q; H = [A; B].
        """
        blocks = apply(self.regions, regions)
        cells = self.words(text, text, text_mask)
        seen = self.regions_read_words(blocks, cells, text_mask)
        aware = self.words_read_those(cells, seen, region_mask)
        visual = self.words_read_regions(cells, blocks, region_mask)
        gate = torch.sigmoid(apply(self.gate_words, aware) + apply(self.gate_regions, visual))
        return torch.cat([aware, gate * visual], dim=-1)


class UMT(EncoderTagger):
    """Both tasks: the typed CRF over H, guided by the span scores of a text-only Transformer layer."""

    def __init__(
        self,
        words: WordEncoder,
        interaction: Interaction,
        spans: TransformerLayer,
        tags: Sequence[str],
        dropout: float,
        span_weight: float,
    ) -> None:
        super().__init__(words)
        self.interaction, self.spans, self.span_weight = interaction, spans, span_weight
        self.dropout = nn.Dropout(dropout)
        self.tag = nn.Linear(2 * words.dim, len(tags))  # w_MNER
        self.mark = nn.Linear(words.dim, len(SPAN_TAGS))  # w_ESD
        self.crf, self.span_crf = CRF(len(tags)), CRF(len(SPAN_TAGS))
        self.register_buffer("conversion", conversion(tags), persistent=False)
        self.register_buffer("span_ids", span_ids(tags), persistent=False)

    def scores(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Emissions of both CRFs, [B, N, K] and [B, N, Z].

        Modified CRF layer: E(h_i, y) = w_MNER^y . h_i + (w_ESD^z . t_i) W^c_{z, y}; T = Transformer(C).
        """
        text = self.dropout(self.words(batch.inputs, len(batch)))
        marks = self.mark(self.spans(text, text, batch.text_mask)[:, 1:-1])
        hidden = self.interaction(text, batch.text_mask, batch.objects.to(text.dtype), batch.object_mask)
        return self.tag(hidden[:, 1:-1]) + marks @ self.get_buffer("conversion"), marks

    def emissions(self, batch: Batch) -> Tensor:
        return self.scores(batch)[0]

    def losses(self, batch: Batch) -> Tensor:
        """-(log P(y|S, V) + lambda log P(z|S)) of each post: [B]."""
        tags, _ = batch.gold
        scores, marks = self.scores(batch)
        spans = self.span_crf.nll(marks, self.get_buffer("span_ids")[tags], batch.word_mask)
        return self.crf.nll(scores, tags, batch.word_mask) + self.span_weight * spans


def build(spec: ModelSpec) -> UMT:
    """The baseline with the spec's encoder; lambda is `ebd_weight`."""
    config = spec.config
    words = build_words(config, spec.assets)
    heads = words.model.config.num_attention_heads
    shape = (words.dim, heads, words.model.config.intermediate_size, config.dropout)
    interaction = Interaction(*shape, spec.object_dim)
    return UMT(words, interaction, TransformerLayer(*shape), spec.labels.tags, config.dropout, config.ebd_weight)

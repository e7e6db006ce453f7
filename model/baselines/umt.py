"""UMT (Yu, Jiang, Yang and Xia 2020): unified multimodal Transformer with entity span detection.

As in the paper, the width D, the heads and the feed-forward width are those of the encoder (768, 12, 3072 in
BERT-base), and each stack is one layer.

Where the public code differs, the paper is followed: one projection W_u of the regions (code: two, with biases),
attention and visual gate without biases, ReLU as in Vaswani et al. (code: BERT's GELU), the sum of both tasks'
emissions (code: half of each). Both have one layer per stack, a separate Transformer layer for each task over the
encoder after dropout, lambda 0.5, and H without dropout. Ours, where the paper is silent: labels are on words, so no
CRF sees [CLS] or [SEP] (the code tags both, and X for pieces inside a word); the conversion matrix, initialised as in
the paper, is constant (in the code too); no dropout on attention weights (code: 0.1); a post without an image has no
regions, and attention to nothing adds nothing. Statements about the code come from reading it; the paper's text was not
checked a second time.

Letters: B posts, T text cells, N = T - 2 words, M regions (49 of the 7x7 grid), D the encoder's width, K tags, Z span
tags.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.baselines.layers import TransformerLayer, apply
from model.crf import CRF
from model.data import Batch
from model.tagger import EncoderTagger, ModelSpec

SPAN_TAGS = ("O", "B", "I")  # the labels of entity span detection


def span_ids(tags: Sequence[str]) -> Tensor:
    """The span tag of each tag, which is the tag without its type: int64 [K]."""
    return torch.tensor([SPAN_TAGS.index(tag[0]) for tag in tags])


def conversion(tags: Sequence[str]) -> Tensor:
    """W^c [Z, K]: 1 / |C_j| for the set C_j of tags that correspond to span tag j, else 0."""
    corresponds = span_ids(tags) == torch.arange(len(SPAN_TAGS))[:, None]
    return corresponds.float() / corresponds.sum(1, keepdim=True).clamp(min=1)


class Interaction(nn.Module):
    """Multimodal interaction: A, the image-aware words, concatenated with B, the word-aware visual representations."""

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
    """Both tasks: the typed CRF over H, guided by the span scores of a text-only Transformer layer.

    lambda is `ebd_weight` of the configuration.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        config, encoder, tags = spec.config, self.words.model.config, spec.labels.tags
        shape = (self.words.dim, encoder.num_attention_heads, encoder.intermediate_size, config.dropout)
        self.interaction = Interaction(*shape, spec.object_dim)
        self.spans, self.span_weight = TransformerLayer(*shape), config.ebd_weight
        self.dropout = nn.Dropout(config.dropout)
        self.tag = nn.Linear(2 * self.words.dim, len(tags))  # w_MNER
        self.mark = nn.Linear(self.words.dim, len(SPAN_TAGS))  # w_ESD
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

"""UMT (Yu et al. 2020): multimodal Transformer with entity span detection; differences: docs/baselines.md.

B posts, T text cells, N = T - 2 words, M regions (49 of the 7x7 grid), D the encoder's width, K tags, Z span tags.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kernels import Linear
from model.baselines.layers import TransformerLayer
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
        self.regions = Linear(region_dim, dim, bias=False)  # W_u
        self.words, self.regions_read_words, self.words_read_those, self.words_read_regions = (
            TransformerLayer(dim, heads, ffn_dim, dropout) for _ in range(4)
        )
        self.gate_words = Linear(dim, dim, bias=False)  # W_a
        self.gate_regions = Linear(dim, dim, bias=False)  # W_q

    def forward(self, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor) -> Tensor:
        """text [B, T, D], text_mask bool [B, T], regions [B, M, region_dim], region_mask bool [B, M] -> H [B, T, 2 D].

        V = W_u^T U; R = Transformer(C). Coupling CMT(V, R): P~ = LN(V + MH-CA(V, R)), P = LN(P~ + FFN(P~)).
        Image-aware words A = CMT(R, P) of P = CMT(V, R); word-aware regions Q = CMT(R, V); visual gate
        g = sigmoid(W_a^T A + W_q^T Q), B = g * Q; H = [A; B].
        """
        blocks = self.regions(regions)
        cells = self.words(text, text, text_mask)
        aware_regions = self.regions_read_words(blocks, cells, text_mask)
        aware = self.words_read_those(cells, aware_regions, region_mask)
        visual = self.words_read_regions(cells, blocks, region_mask)
        gate = torch.sigmoid(self.gate_words(aware) + self.gate_regions(visual))
        return torch.cat([aware, gate * visual], dim=-1)


class UMT(EncoderTagger):
    """Both tasks: the typed CRF over H, guided by the span scores of a text-only layer; lambda is `ebd_weight`."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        config, encoder, tags = spec.config, self.words.model.config, spec.labels.tags
        shape = (self.words.dim, encoder.num_attention_heads, encoder.intermediate_size, config.dropout)
        self.interaction = Interaction(*shape, spec.object_dim)
        self.spans, self.span_weight = TransformerLayer(*shape), config.ebd_weight
        self.tag = nn.Linear(2 * self.words.dim, len(tags))  # w_MNER
        self.mark = nn.Linear(self.words.dim, len(SPAN_TAGS))  # w_ESD
        self.crf, self.span_crf = CRF(len(tags)), CRF(len(SPAN_TAGS))
        self.register_buffer("conversion", conversion(tags), persistent=False)
        self.register_buffer("span_ids", span_ids(tags), persistent=False)

    def scores(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Emissions of both CRFs, [B, N, K] and [B, N, Z].

        Modified CRF layer: E(h_i, y) = w_MNER^y . h_i + (w_ESD^z . t_i) W^c_{z, y}; T = Transformer(C).
        """
        text = self.read(batch)
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

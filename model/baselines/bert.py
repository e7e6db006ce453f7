"""BERT (Devlin et al. 2019, Section 5.3): the encoder's word vectors, a linear layer and a softmax for each word.

BERT-CRF: the encoder's word vectors, a linear layer and a CRF; text only, the first rival.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.crf import CRF, Transitions
from model.data import Batch
from model.tagger import EncoderTagger, ModelSpec
from model.words import WordEncoder, build_words


class Softmax(CRF):
    """Words that know nothing of each other: a CRF whose transitions are all zero, so its marginals are softmaxes.

    It has no parameter, and is decoded word by word: an `I-` may follow anything, as in the paper.
    """

    def __init__(self, num_tags: int) -> None:
        nn.Module.__init__(self)  # not the CRF's own, which would make parameters
        self.num_tags, self.batch_first = num_tags, True
        for name, shape in (("start", (num_tags,)), ("end", (num_tags,)), ("", (num_tags, num_tags))):
            edges = f"{name}_transitions".lstrip("_")
            self.register_buffer(edges, torch.zeros(shape), persistent=False)

    def nll(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Cross-entropy summed over a post's words: [B], float32 or float64; arguments as the CRF's."""
        self._check(emissions, mask)
        full = emissions if emissions.dtype == torch.float64 else emissions.float()
        chosen = full.log_softmax(-1).gather(2, tags.masked_fill(~mask, 0)[..., None])[..., 0]
        return -chosen.masked_fill(~mask, 0.0).sum(1)

    @torch.no_grad()
    def decode(
        self, emissions: Tensor, mask: Tensor | None = None, allowed: Transitions | None = None
    ) -> list[list[int]]:
        """The best tag of each word; `allowed` constrains nothing here."""
        lengths = [emissions.shape[1]] * len(emissions) if mask is None else mask.sum(1).tolist()
        return [tags[:n] for tags, n in zip(emissions.argmax(-1).tolist(), lengths, strict=True)]


class BertCRF(EncoderTagger):
    """Emissions are a linear map of dropped-out word vectors."""

    def __init__(self, words: WordEncoder, n_tags: int, dropout: float) -> None:
        super().__init__(words)
        self.dropout = nn.Dropout(dropout)
        self.tag = nn.Linear(words.dim, n_tags)
        self.crf = CRF(n_tags)

    def emissions(self, batch: Batch) -> Tensor:
        """Tag scores [B, N, K]; objects are not read."""
        return self.tag(self.dropout(self.words(batch.inputs, len(batch))[:, 1:-1]))


def build_bert_crf(spec: ModelSpec) -> BertCRF:
    """The baseline with the spec's encoder."""
    words = build_words(spec.config, spec.assets)
    return BertCRF(words, len(spec.labels.tags), spec.config.dropout)


class Bert(BertCRF):
    """Emissions as BERT-CRF's; the loss is the words' cross-entropy."""

    def __init__(self, words: WordEncoder, n_tags: int, dropout: float) -> None:
        super().__init__(words, n_tags, dropout)
        self.crf = Softmax(n_tags)


def build_bert(spec: ModelSpec) -> Bert:
    """The baseline with the spec's encoder."""
    words = build_words(spec.config, spec.assets)
    return Bert(words, len(spec.labels.tags), spec.config.dropout)

"""BERT-CRF: the encoder's word vectors, a linear layer and a CRF; text only, the first rival."""

from __future__ import annotations

from torch import Tensor, nn

from model.batch import Batch
from model.crf import CRF
from model.tagger import EncoderTagger, Setting
from model.words import WordEncoder, build_words


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


def build(setting: Setting) -> BertCRF:
    """The baseline with the setting's encoder."""
    words = build_words(setting.config, setting.assets)
    return BertCRF(words, len(setting.labels.tags), setting.config.dropout)

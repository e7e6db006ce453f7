"""VG-ATT: Lu et al., Visual Attention Model for Name Tagging in Multimodal Social Media (ACL 2018).

B posts, N words, M cells of the 7x7 grid, D the pack's width, H hidden units a direction.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from model.baselines.layers import AdditiveAttention, BiLSTM, Standard
from model.baselines.recurrent import HBILSTM_HIDDEN, HBiLSTMCRF, WordTable, build_table
from model.data import Batch
from model.tagger import ModelSpec
from model.vocabulary import Vocabulary


class VgAtt(HBiLSTMCRF):
    """HBiLSTM-CRF whose words are tuned by what the post's text makes out in its picture.

    There is no public code, and the equations here were not held against the paper's text again: take their form, the
    attention's above all, as our reading of it.

    Attention: A = tanh(W_v V (+) (W_t Q + b)), E = softmax(W_a A), v_c = sum_i E_i v_i over the grid's cells v_i, with
    Q the sentence: both ends of a BiLSTM of its own over the same word vectors (which network makes Q, and its size,
    are ours).
    Modulation gate, for each word h_i: b_v = sigmoid(W h_i + U v_c + b), b_w and m = tanh(...) alike with weights of
    their own, and w_i = b_w * h_i + b_v * m goes on to the CRF. Without a picture v_c is zero: ours. So is that the
    pack's features are standardised, and dropout on v_c: without them pictures are learned by heart.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        words: WordTable,
        n_tags: int,
        dropout: float,
        object_dim: int,
        hidden: int = HBILSTM_HIDDEN,
    ) -> None:
        super().__init__(vocabulary, words, n_tags, dropout, hidden)
        width = self.context.dim
        self.standard = Standard(object_dim)
        self.sentence = BiLSTM(vocabulary.word_dim + self.spelling.dim, hidden)
        self.attention = AdditiveAttention(self.sentence.dim, object_dim, width)
        self.gates = nn.Linear(width, 3 * width)  # W and b of b_v, b_w and m
        self.seen = nn.Linear(object_dim, 3 * width, bias=False)  # U of the same

    def prepare(self, features: Iterable[np.ndarray]) -> None:
        self.standard.learn(features)

    def contexts(self, batch: Batch, vectors: Tensor) -> Tensor:
        """Visually tuned words [B, N, 2H]; anything at padding."""
        words = super().contexts(batch, vectors)
        sentence = self.sentence.last(vectors, batch.inputs["n_words"])
        cells = self.standard(batch.objects.to(words.dtype))
        shares = self.attention(sentence[:, None], cells, batch.object_mask)  # [B, 1, M]
        return self.modulated(words, self.dropout(shares @ cells))

    def modulated(self, words: Tensor, seen: Tensor) -> Tensor:
        """The modulation gate on words [B, N, 2H] and visual contexts [B, 1, D]: [B, N, 2H]."""
        gate_seen, gate_words, mixed = (self.gates(words) + self.seen(seen)).chunk(3, dim=2)
        return torch.sigmoid(gate_words) * words + torch.sigmoid(gate_seen) * mixed.tanh()


def build(spec: ModelSpec) -> VgAtt:
    """The baseline with the paper's sizes; new weights come from torch's global generator."""
    vocabulary, words = build_table(spec)
    return VgAtt(vocabulary, words, len(spec.labels.tags), spec.config.dropout, spec.object_dim)

"""HBiLSTM-CRF: Lample et al., Neural Architectures for Named Entity Recognition (NAACL 2016).

"Hierarchical": a BiLSTM over a word's characters below the one over a post's words. U distinct spellings of a batch, C
characters of one.
"""

from __future__ import annotations

from torch import Tensor, nn

from model.baselines.recurrent import RecurrentTagger, Spelling, WordTable, build_table, draw_glorot, draw_uniform
from model.batch import Batch
from model.bilstm import BiLSTM
from model.tagger import Setting
from model.vocabulary import Vocabulary

CHAR_DIM, CHAR_HIDDEN, HIDDEN = 25, 25, 100  # Sections 4.1 and 5.1 of the paper


class CharBiLSTM(Spelling):
    """Section 4.1: both directions' states after their last character."""

    def __init__(self, n_characters: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(n_characters, CHAR_DIM)
        draw_uniform(self.characters)
        self.lstm = BiLSTM(CHAR_DIM, CHAR_HIDDEN)
        self.dim = self.lstm.dim

    def forward(self, spellings: Tensor, n_chars: Tensor) -> Tensor:
        return self.lstm.last(self.characters(spellings), n_chars)


class HBiLSTMCRF(RecurrentTagger):
    """Sections 2 and 4: word and spelling vectors, dropout, BiLSTM, a hidden layer of tanh, the CRF's scores.

    Section 2.1 couples the input and the forget gate and lets gates see the cell. Ours is the usual LSTM, which
    libraries have fused kernels for. The paper steps by SGD, ours by Adam, and where no file of vectors is given they
    start at random.
    """

    def __init__(
        self, vocabulary: Vocabulary, words: WordTable, n_tags: int, dropout: float, hidden: int = HIDDEN
    ) -> None:
        spelling = CharBiLSTM(vocabulary.n_characters)
        super().__init__(vocabulary, words, spelling, hidden, n_tags, dropout)
        self.hidden = nn.Linear(self.context.dim, hidden)
        self.tag = nn.Linear(hidden, n_tags)
        draw_glorot(self)

    def emissions(self, batch: Batch) -> Tensor:
        """Tag scores [B, N, K] (P of Eq. 1): a linear layer over tanh(W c + b) of each word in context c."""
        return self.tag(self.hidden(self.contexts(batch, self.vectors(batch.inputs))).tanh())


def build(setting: Setting) -> HBiLSTMCRF:
    """The baseline with the paper's sizes; new weights come from torch's global generator."""
    vocabulary, words = build_table(setting)
    return HBiLSTMCRF(vocabulary, words, len(setting.labels.tags), setting.config.dropout)

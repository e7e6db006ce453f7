"""CNN-BiLSTM-CRF: Ma and Hovy, End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF (ACL 2016).

U distinct spellings of a batch, C characters of one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.baselines.recurrent import RecurrentTagger, Spelling, WordTable, build_table, draw_glorot, draw_uniform
from model.batch import Batch
from model.tagger import Setting
from model.vocabulary import Vocabulary

CHAR_DIM, N_FILTERS, WINDOW, HIDDEN = 30, 30, 3, 200  # Table 1 of the paper: one LSTM's state is 200


class CharCNN(Spelling):
    """Section 2.1: windows of 3 characters, each with padding around the word, and the maximum over all of them.

    A filter's value is tanh(max_i(W c[i-1..i+1] + b)); tanh is ours, the paper names no function. Dropout on the
    characters' vectors (Section 2.1).
    """

    def __init__(self, n_characters: int, dropout: float) -> None:
        super().__init__()
        self.dim = N_FILTERS
        self.characters = nn.Embedding(n_characters, CHAR_DIM)
        draw_uniform(self.characters)
        self.filters = nn.Conv1d(CHAR_DIM, N_FILTERS, WINDOW, padding=WINDOW // 2)
        nn.init.xavier_uniform_(self.filters.weight)
        nn.init.zeros_(self.filters.bias)  # type: ignore[arg-type]
        self.dropout = nn.Dropout(dropout)

    def forward(self, spellings: Tensor, n_chars: Tensor) -> Tensor:
        real = torch.arange(spellings.shape[1], device=spellings.device) < n_chars[:, None]  # [U, C]
        vectors = self.dropout(self.characters(spellings)) * real[..., None]
        windows = self.filters(vectors.transpose(1, 2))  # [U, N_FILTERS, C]
        return windows.masked_fill(~real[:, None], -torch.inf).amax(dim=2).tanh()


class CnnBiLSTMCRF(RecurrentTagger):
    """Section 2.4: the BiLSTM's words through a linear layer to the CRF; dropout before and behind the BiLSTM.

    `spelling` takes the place of the paper's character CNN.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        words: WordTable,
        n_tags: int,
        dropout: float,
        hidden: int = HIDDEN,
        spelling: Spelling | None = None,
    ) -> None:
        spelling = spelling or CharCNN(vocabulary.n_characters, dropout)
        super().__init__(vocabulary, words, spelling, hidden, n_tags, dropout)
        self.tag = nn.Linear(self.context.dim, n_tags)
        draw_glorot(self)

    def emissions(self, batch: Batch) -> Tensor:
        """Tag scores [B, N, K]; objects are not read."""
        return self.tag(self.dropout(self.contexts(batch, self.vectors(batch.inputs))))


def build(setting: Setting) -> CnnBiLSTMCRF:
    """The baseline with the paper's sizes; new weights come from torch's global generator."""
    vocabulary, words = build_table(setting)
    return CnnBiLSTMCRF(vocabulary, words, len(setting.labels.tags), setting.config.dropout)

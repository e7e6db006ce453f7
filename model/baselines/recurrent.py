"""BiLSTM taggers without a pretrained encoder: a word's vector beside its spelling's, and a BiLSTM over them.

HBiLSTM-CRF: Lample et al. (NAACL 2016); a BiLSTM over a word's characters is below the one over a post's words.
CNN-BiLSTM-CRF: Ma and Hovy (ACL 2016). Differences: docs/baselines.md.

Letters: B posts, N words, U distinct spellings of a batch, C characters of one, E floats of a word's vector, H hidden
units per direction, K tags.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from model.baselines.layers import BiLSTM, Standardize
from model.crf import CRF
from model.data import Batch
from model.tagger import ModelSpec, Tagger
from model.vocabulary import N_SPECIAL_CHARS, WordTable, build_table, draw_uniform

BILSTM_CHAR_DIM, CHAR_HIDDEN, HBILSTM_HIDDEN = 25, 25, 100  # Lample et al., Sections 4.1 and 5.1
CNN_CHAR_DIM, N_FILTERS, WINDOW, CNN_HIDDEN = 30, 30, 3, 200  # Ma and Hovy, Table 1: one LSTM's state is 200


def draw_glorot(module: nn.Module) -> None:
    """Glorot's uniform weights and zero biases in all linear layers (Ma and Hovy, Section 3.1)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def char_filters(char_dim: int, n_filters: int, window: int, padding: int = 0) -> nn.Conv1d:
    """Filters over windows of characters, with weights by Glorot's uniform and biases 0."""
    filters = nn.Conv1d(char_dim, n_filters, window, padding=padding)
    nn.init.xavier_uniform_(filters.weight)
    nn.init.zeros_(filters.bias)  # type: ignore[arg-type]
    return filters


class Spelling(nn.Module):
    """Subclasses map character ids [U, C] of words with lengths [U] to vectors [U, dim]."""

    def __init__(self, dim: int, n_characters: int, char_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.characters = nn.Embedding(n_characters, char_dim)
        draw_uniform(self.characters)
        self.dropout = nn.Dropout(dropout)

    def read(self, spellings: Tensor, n_chars: Tensor) -> tuple[Tensor, Tensor]:
        """Character vectors after dropout, 0 at padding, [U, char_dim, C]; a mask of the real characters, [U, 1, C]."""
        real = torch.arange(spellings.shape[1], device=spellings.device) < n_chars[:, None]
        return (self.dropout(self.characters(spellings)) * real[..., None]).transpose(1, 2), real[:, None]


class CharBiLSTM(Spelling):
    """Lample et al., Section 4.1: both directions' states after their last character."""

    def __init__(self, n_characters: int) -> None:
        super().__init__(2 * CHAR_HIDDEN, n_characters, BILSTM_CHAR_DIM)
        self.lstm = BiLSTM(BILSTM_CHAR_DIM, CHAR_HIDDEN)

    def forward(self, spellings: Tensor, n_chars: Tensor) -> Tensor:
        return self.lstm.last(self.characters(spellings), n_chars)


class CharCNN(Spelling):
    """Ma and Hovy, Section 2.1: tanh of the maximum over windows of 3 characters, padded around the word; dropout."""

    def __init__(self, n_characters: int, dropout: float) -> None:
        super().__init__(N_FILTERS, n_characters, CNN_CHAR_DIM, dropout)
        self.filters = char_filters(CNN_CHAR_DIM, N_FILTERS, WINDOW, padding=WINDOW // 2)

    def forward(self, spellings: Tensor, n_chars: Tensor) -> Tensor:
        vectors, real = self.read(spellings, n_chars)
        return self.filters(vectors).masked_fill(~real, -torch.inf).amax(dim=2).tanh()


class RecurrentTagger(Tagger):
    """Words in context, [B, N, 2H], by a BiLSTM over word vectors beside spelling vectors; subclasses score tags."""

    words: WordTable

    def __init__(self, spec: ModelSpec, spelling: Callable[[int, float], Spelling], hidden: int) -> None:
        super().__init__()
        self.words = build_table(spec.config.words, spec.assets, spec.train_words)
        self.featurizer = vocabulary = self.words.vocabulary
        self.spelling = spelling(N_SPECIAL_CHARS + len(vocabulary.characters), spec.config.dropout)
        self.context = BiLSTM(vocabulary.word_dim + self.spelling.dim, hidden)
        self.dropout = nn.Dropout(spec.config.dropout)
        self.crf = CRF(len(spec.labels.tags))

    def prepare(self, features: Iterable[np.ndarray]) -> None:
        for module in self.modules():
            if isinstance(module, Standardize):
                module.learn(features)

    def vectors(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the BiLSTM reads, after dropout: [B, N, E + spelling.dim]."""
        spelled = self.spelling(inputs["spellings"], inputs["n_chars"])
        return self.dropout(torch.cat([self.words(inputs["words"]), spelled[inputs["spelling"]]], dim=2))

    def contexts(self, batch: Batch, vectors: Tensor) -> Tensor:
        """Words in context [B, N, 2H]; padding is arbitrary."""
        return self.context(vectors, batch.inputs["n_words"])


class HBiLSTMCRF(RecurrentTagger):
    """Lample et al., Sections 2 and 4: word and spelling vectors, dropout, BiLSTM, a hidden layer of tanh, CRF."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, lambda n_characters, dropout: CharBiLSTM(n_characters), HBILSTM_HIDDEN)
        self.hidden = nn.Linear(self.context.dim, HBILSTM_HIDDEN)
        self.tag = nn.Linear(HBILSTM_HIDDEN, len(spec.labels.tags))
        draw_glorot(self)

    def emissions(self, batch: Batch) -> Tensor:
        """Tag scores [B, N, K] (P of Eq. 1): a linear layer over tanh(W c + b) of each word in context c."""
        return self.tag(self.hidden(self.contexts(batch, self.vectors(batch.inputs))).tanh())


class CnnBiLSTMCRF(RecurrentTagger):
    """Ma and Hovy, Section 2.4: BiLSTM, linear layer, CRF; dropout before and after the BiLSTM."""

    def __init__(self, spec: ModelSpec, spelling: Callable[[int, float], Spelling] = CharCNN) -> None:
        super().__init__(spec, spelling, CNN_HIDDEN)
        self.tag = nn.Linear(self.context.dim, len(spec.labels.tags))
        draw_glorot(self)

    def emissions(self, batch: Batch) -> Tensor:
        return self.tag(self.dropout(self.contexts(batch, self.vectors(batch.inputs))))

"""BiLSTM taggers without a pretrained encoder: a word's vector beside its spelling's, and a BiLSTM over them.

HBiLSTM-CRF: Lample et al., Neural Architectures for Named Entity Recognition (NAACL 2016); "hierarchical", since a
BiLSTM over a word's characters is below the one over a post's words.
CNN-BiLSTM-CRF: Ma and Hovy, End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF (ACL 2016).

Tags are IOB2 as in every approach; both papers use IOBES, which Lample et al. found to gain little. Words have one key
for all links, users and digits (`model.vocabulary`), also where Ma and Hovy keep words as they are.

Letters: B posts, N words, U distinct spellings of a batch, C characters of one, E floats of a word's vector, H hidden
units per direction, K tags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cache.keys import digest_file
from model.baselines.layers import BiLSTM
from model.crf import CRF
from model.data import Batch
from model.tagger import ModelSpec, Tagger
from model.vocabulary import Vocabulary, WordVectors, read_vectors

RANDOM = "random"  # TrainConfig.words: word vectors are drawn
WORD_DIM = 100  # floats: both papers' width for English, Ma and Hovy's GloVe and Lample et al.'s skip-n-grams
UNKNOWN_SHARE = 0.5  # of the words that occur once: Lample et al., Section 4.1
BILSTM_CHAR_DIM, CHAR_HIDDEN, HBILSTM_HIDDEN = 25, 25, 100  # Lample et al., Sections 4.1 and 5.1
CNN_CHAR_DIM, N_FILTERS, WINDOW, CNN_HIDDEN = 30, 30, 3, 200  # Ma and Hovy, Table 1: one LSTM's state is 200


class WordTable(nn.Module):
    """A vector for each row of a vocabulary.

    Words of the training posts have learned vectors, drawn from U(-sqrt(3/E), sqrt(3/E)) or read from a file; vectors
    of other words of the file are fixed; all remaining words share one learned vector, which in training also replaces
    a random half of the words that occur once.
    """

    given: Tensor

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.n_repeated, self.n_given = vocabulary.n_repeated, len(vocabulary.given)
        self.learned = nn.Embedding(1 + len(vocabulary.words), vocabulary.word_dim)
        draw_uniform(self.learned)
        self.register_buffer("given", torch.zeros(self.n_given, vocabulary.word_dim))
        self.origin: dict[str, str] = {}  # digest of the file of vectors

    @torch.no_grad()
    def fill(self, vocabulary: Vocabulary, vectors: WordVectors) -> None:
        """Copy the vectors of the words that have one."""
        values = torch.from_numpy(vectors.values)
        places = {key: place for place, key in enumerate(vectors.keys)}
        pairs = [(row, places[key]) for row, key in enumerate(vocabulary.words, start=1) if key in places]
        if pairs:
            rows, sources = zip(*pairs, strict=True)
            self.learned.weight[list(rows)] = values[list(sources)]
        self.given.copy_(values[[places[key] for key in vocabulary.given]])

    def forward(self, rows: Tensor) -> Tensor:
        """Vectors [B, N, E] of rows int64 [B, N]."""
        n_learned = self.learned.num_embeddings
        if self.training:
            once = (rows > self.n_repeated) & (rows < n_learned)
            rows = rows.masked_fill(once & (torch.rand(rows.shape, device=rows.device) < UNKNOWN_SHARE), 0)
        learned: Tensor = self.learned(rows.clamp(max=n_learned - 1))
        if not self.n_given:
            return learned
        return torch.where((rows >= n_learned)[..., None], self.given[(rows - n_learned).clamp(min=0)], learned)


def build_table(spec: ModelSpec) -> tuple[Vocabulary, WordTable]:
    """From the training posts and the configured file of vectors, or as a run saved it, its weights to follow."""
    if spec.assets is not None:
        vocabulary = Vocabulary.load(spec.assets)
        return vocabulary, WordTable(vocabulary)
    vocabulary = Vocabulary.of_posts(spec.train_words, WORD_DIM)
    if spec.config.words == RANDOM:
        return vocabulary, WordTable(vocabulary)
    path = Path(spec.config.words)
    vectors = read_vectors(path, vocabulary.words)
    vocabulary = vocabulary.extended(vectors.keys, vectors.dim)
    table = WordTable(vocabulary)
    table.fill(vocabulary, vectors)
    table.origin = {"words": digest_file(path)}
    return vocabulary, table


def draw_glorot(module: nn.Module) -> None:
    """U(-sqrt(6/(rows + columns)), ...) and biases 0 for all linear layers in a module: Ma and Hovy, Section 3.1.

    With torch's smaller default a signal fades over a few layers.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def draw_uniform(embedding: nn.Embedding) -> None:
    """U(-sqrt(3/E), sqrt(3/E)): Ma and Hovy, Section 3.1; every row, also that of padding, which is never read."""
    bound = (3 / embedding.embedding_dim) ** 0.5
    nn.init.uniform_(embedding.weight, -bound, bound)


class Spelling(nn.Module):
    """Spellings to vectors of width `dim`."""

    dim: int

    def forward(self, spellings: Tensor, n_chars: Tensor) -> Tensor:
        """Vectors [U, dim] of character ids [U, C] with lengths [U]."""
        raise NotImplementedError


class CharBiLSTM(Spelling):
    """Lample et al., Section 4.1: both directions' states after their last character."""

    def __init__(self, n_characters: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(n_characters, BILSTM_CHAR_DIM)
        draw_uniform(self.characters)
        self.lstm = BiLSTM(BILSTM_CHAR_DIM, CHAR_HIDDEN)
        self.dim = self.lstm.dim

    def forward(self, spellings: Tensor, n_chars: Tensor) -> Tensor:
        return self.lstm.last(self.characters(spellings), n_chars)


class CharCNN(Spelling):
    """Ma and Hovy, Section 2.1: windows of 3 characters, padded around the word, and the maximum over all of them.

    A filter's value is tanh(max_i(W c[i-1..i+1] + b)); tanh is ours, the paper names no function. Dropout on the
    characters' vectors (Section 2.1).
    """

    def __init__(self, n_characters: int, dropout: float) -> None:
        super().__init__()
        self.dim = N_FILTERS
        self.characters = nn.Embedding(n_characters, CNN_CHAR_DIM)
        draw_uniform(self.characters)
        self.filters = nn.Conv1d(CNN_CHAR_DIM, N_FILTERS, WINDOW, padding=WINDOW // 2)
        nn.init.xavier_uniform_(self.filters.weight)
        nn.init.zeros_(self.filters.bias)  # type: ignore[arg-type]
        self.dropout = nn.Dropout(dropout)

    def forward(self, spellings: Tensor, n_chars: Tensor) -> Tensor:
        real = torch.arange(spellings.shape[1], device=spellings.device) < n_chars[:, None]  # [U, C]
        vectors = self.dropout(self.characters(spellings)) * real[..., None]
        windows = self.filters(vectors.transpose(1, 2))  # [U, N_FILTERS, C]
        return windows.masked_fill(~real[:, None], -torch.inf).amax(dim=2).tanh()


class RecurrentTagger(Tagger):
    """Words in context, [B, N, 2H], by a BiLSTM over word vectors beside spelling vectors; subclasses score tags."""

    def __init__(self, spec: ModelSpec, spelling: Callable[[int, float], Spelling], hidden: int) -> None:
        """`spelling` is built from the number of characters and the dropout."""
        super().__init__()
        vocabulary, self.words = build_table(spec)
        self.vocabulary = self.featurizer = vocabulary
        self.spelling = spelling(vocabulary.n_characters, spec.config.dropout)
        self.context = BiLSTM(vocabulary.word_dim + self.spelling.dim, hidden)
        self.dropout = nn.Dropout(spec.config.dropout)
        self.crf = CRF(len(spec.labels.tags))

    def vectors(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the BiLSTM reads, after dropout: [B, N, E + spelling.dim]."""
        spelled = self.spelling(inputs["spellings"], inputs["n_chars"])
        return self.dropout(torch.cat([self.words(inputs["words"]), spelled[inputs["spelling"]]], dim=2))

    def contexts(self, batch: Batch, vectors: Tensor) -> Tensor:
        """Words in context [B, N, 2H]; padding holds anything."""
        return self.context(vectors, batch.inputs["n_words"])

    def origin(self) -> dict[str, str]:
        return self.words.origin

    def save_assets(self, folder: Path) -> None:
        self.vocabulary.save(folder)


class HBiLSTMCRF(RecurrentTagger):
    """Lample et al., Sections 2 and 4: word and spelling vectors, dropout, BiLSTM, a hidden layer of tanh, CRF.

    Section 2.1 couples the input and the forget gate and lets gates read the cell; ours is the usual LSTM, for which
    libraries have fused kernels. The paper trains by SGD, ours by Adam, and without a file of vectors they are drawn.
    """

    def __init__(self, spec: ModelSpec, hidden: int = HBILSTM_HIDDEN) -> None:
        super().__init__(spec, lambda n_characters, dropout: CharBiLSTM(n_characters), hidden)
        self.hidden = nn.Linear(self.context.dim, hidden)
        self.tag = nn.Linear(hidden, len(spec.labels.tags))
        draw_glorot(self)

    def emissions(self, batch: Batch) -> Tensor:
        """Tag scores [B, N, K] (P of Eq. 1): a linear layer over tanh(W c + b) of each word in context c."""
        return self.tag(self.hidden(self.contexts(batch, self.vectors(batch.inputs))).tanh())


class CnnBiLSTMCRF(RecurrentTagger):
    """Ma and Hovy, Section 2.4: BiLSTM, linear layer, CRF; dropout before and after the BiLSTM."""

    def __init__(
        self, spec: ModelSpec, spelling: Callable[[int, float], Spelling] = CharCNN, hidden: int = CNN_HIDDEN
    ) -> None:
        super().__init__(spec, spelling, hidden)
        self.tag = nn.Linear(self.context.dim, len(spec.labels.tags))
        draw_glorot(self)

    def emissions(self, batch: Batch) -> Tensor:
        """Tag scores [B, N, K]."""
        return self.tag(self.dropout(self.contexts(batch, self.vectors(batch.inputs))))

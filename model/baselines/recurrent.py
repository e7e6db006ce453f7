"""What the BiLSTM taggers share: a word's vector beside its spelling's, and a BiLSTM over them.

Tags are BIO as in every approach; Ma and Hovy and Lample et al. tag by IOBES, which the latter found to bring little.
All four taggers' words have one key for a number's digits, links and users (`model.vectors`), Ma and Hovy's too, who
leave words as they are.

Letters: B posts, N words, U distinct spellings of a batch, C characters of one, E floats of a word's vector, H hidden
units a direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cache.keys import digest_file
from model.batch import Batch
from model.bilstm import BiLSTM
from model.crf import CRF
from model.tagger import Setting, Tagger
from model.vectors import WordVectors, read_vectors
from model.vocabulary import Vocabulary

RANDOM = "random"  # TrainConfig.words: vectors of WORD_DIM are drawn
WORD_DIM = 100  # floats: both papers' width for English, Ma and Hovy's GloVe and Lample et al.'s skip-n-grams
UNKNOWN_SHARE = 0.5  # of the words that occur once: Lample et al., Section 4.1


class WordTable(nn.Module):
    """A vector for each row of a vocabulary.

    Words of the training posts have learned vectors, drawn from U(-sqrt(3/E), sqrt(3/E)) or given; a given vector of a
    word that they do not hold stays as it is; all other words share one learned vector, which in training also takes
    the place of a random half of the words that occur once.
    """

    given: Tensor

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.n_repeated, self.n_given = vocabulary.n_repeated, len(vocabulary.given)
        self.learned = nn.Embedding(1 + len(vocabulary.words), vocabulary.word_dim)
        draw_uniform(self.learned)
        self.register_buffer("given", torch.zeros(self.n_given, vocabulary.word_dim))
        self.origin: dict[str, str] = {}  # digest of the file that filled it

    @torch.no_grad()
    def fill(self, vocabulary: Vocabulary, vectors: WordVectors) -> None:
        """Take over the vectors of the words that have one."""
        values = torch.from_numpy(vectors.values)
        places = {key: place for place, key in enumerate(vectors.keys)}
        pairs = [(row, places[key]) for row, key in enumerate(vocabulary.words, start=1) if key in places]
        if pairs:
            rows, taken = zip(*pairs, strict=True)
            self.learned.weight[list(rows)] = values[list(taken)]
        self.given.copy_(values[[places[key] for key in vocabulary.given]])

    def forward(self, rows: Tensor) -> Tensor:
        """Vectors [B, N, E] of rows int64 [B, N]."""
        n_learned = self.learned.num_embeddings
        if self.training:
            once = (rows > self.n_repeated) & (rows < n_learned)
            rows = rows.masked_fill(once & (torch.rand(rows.shape, device=rows.device) < UNKNOWN_SHARE), 0)
        found: Tensor = self.learned(rows.clamp(max=n_learned - 1))
        if not self.n_given:
            return found
        return torch.where((rows >= n_learned)[..., None], self.given[(rows - n_learned).clamp(min=0)], found)


class Spelling(nn.Module):
    """Spellings to vectors; `dim` is the width."""

    dim: int

    def forward(self, spellings: Tensor, n_chars: Tensor) -> Tensor:
        """Vectors [U, dim] of character ids [U, C] with lengths [U]."""
        raise NotImplementedError


class RecurrentTagger(Tagger):
    """Words in context, [B, N, 2H], by a BiLSTM over word vectors beside spelling vectors; subclasses score tags."""

    def __init__(
        self, vocabulary: Vocabulary, words: WordTable, spelling: Spelling, hidden: int, n_tags: int, dropout: float
    ) -> None:
        super().__init__()
        self.vocabulary = self.featurizer = vocabulary
        self.words, self.spelling = words, spelling
        self.context = BiLSTM(vocabulary.word_dim + spelling.dim, hidden)
        self.dropout = nn.Dropout(dropout)
        self.crf = CRF(n_tags)

    def vectors(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the BiLSTM reads, dropout applied: [B, N, E + spelling.dim]."""
        spelled = self.spelling(inputs["spellings"], inputs["n_chars"])
        return self.dropout(torch.cat([self.words(inputs["words"]), spelled[inputs["spelling"]]], dim=2))

    def contexts(self, batch: Batch, vectors: Tensor) -> Tensor:
        """Words in context [B, N, 2H]; anything at padding."""
        return self.context(vectors, batch.inputs["n_words"])

    def origin(self) -> dict[str, str]:
        return self.words.origin

    def save_assets(self, folder: Path) -> None:
        self.vocabulary.save(folder)


def build_table(setting: Setting) -> tuple[Vocabulary, WordTable]:
    """Of the training posts and the file that the configuration names, or what a run saved, its vectors to come."""
    if setting.assets is not None:
        vocabulary = Vocabulary.load(setting.assets)
        return vocabulary, WordTable(vocabulary)
    vocabulary = Vocabulary.of_posts(setting.train_words, WORD_DIM)
    if setting.config.words == RANDOM:
        return vocabulary, WordTable(vocabulary)
    path = Path(setting.config.words)
    vectors = read_vectors(path, vocabulary.words)
    vocabulary = vocabulary.extended(vectors.keys, vectors.dim)
    table = WordTable(vocabulary)
    table.fill(vocabulary, vectors)
    table.origin = {"words": digest_file(path)}
    return vocabulary, table


def draw_glorot(module: nn.Module) -> None:
    """U(-sqrt(6/(rows + columns)), ...) and biases 0 for all linear layers in a module: Ma and Hovy, Section 3.1.

    Torch's own default is so much smaller that a signal fades on its way through a few layers.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def draw_uniform(embedding: nn.Embedding) -> None:
    """U(-sqrt(3/E), sqrt(3/E)): Ma and Hovy, Section 3.1; every row, that of padding too, which nothing reads."""
    bound = (3 / embedding.embedding_dim) ** 0.5
    nn.init.uniform_(embedding.weight, -bound, bound)

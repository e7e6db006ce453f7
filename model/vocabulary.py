"""Words and characters as numbers for approaches without a pretrained encoder, and word vectors in GloVe's format.

A vocabulary is built from the training posts. A line of a file of vectors has a word and its numbers.

Letters: B posts, N words, U distinct words of a batch, C characters of a word.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from cache.keys import digest_file
from schema.errors import DataError, RunError, WeightsError

WORD_DIM = 100  # floats: both papers' width for English, Ma and Hovy's GloVe and Lample et al.'s skip-n-grams
UNKNOWN_SHARE = 0.5  # of the words that occur once: Lample et al., Section 4.1
N_MORE = 100_000  # ours: words of a file that are in no training post; the most frequent ones come first
USER, URL = "<user>", "<url>"  # as GloVe's vectors of tweets name them


def key_of(word: str) -> str:
    """A word's key in tables and files: lower case, 0 for each digit (Lample et al., Section 5.2), one key for all
    links and one for all users.
    """
    lowered = word.lower()
    if lowered.startswith(("http://", "https://")):
        return URL
    return USER if lowered.startswith("@") and len(lowered) > 1 else re.sub("[0-9]", "0", lowered)


def read_vectors(path: Path, needed: Collection[str], n_more: int = N_MORE) -> dict[str, np.ndarray]:
    """Vectors, float32 [E], of the keys in `needed` and of the first `n_more` other keys of a file, in its order.

    If several words have the same key, the first is used. A word2vec header (`words numbers`) is skipped.
    """
    vectors: dict[str, np.ndarray] = {}
    needed, dim = frozenset(needed), 0
    try:
        with path.open(encoding="utf-8", newline="\n") as file:  # vectors of tweets contain U+0085 and the like
            for number, line in enumerate(file, start=1):
                line = line.rstrip("\r\n")
                if number == 1 and re.fullmatch(r"\d+ \d+", line):
                    continue
                dim = dim or line.count(" ")
                key = key_of(line.partition(" ")[0])
                if key in vectors or (key not in needed and not n_more):
                    continue
                word, *numbers = line.rsplit(" ", dim)  # a few words contain spaces
                key = key_of(word)
                if key in vectors:
                    continue
                try:
                    vectors[key] = np.array(numbers, dtype=np.float32)
                except ValueError:
                    vectors[key] = np.empty(0, np.float32)
                if dim < 1 or vectors[key].shape != (dim,) or not np.isfinite(vectors[key]).all():
                    what = f"a line of word vectors needs a word and {max(dim, 1)} numbers"
                    raise DataError(what, where=f"{path}:{number}", found=" ".join(numbers))
                n_more -= key not in needed
    except OSError as error:
        todo = "give train.words the path of a GloVe text file, or random"
        raise WeightsError("no such word vectors", where=str(path), found=type(error).__name__, todo=todo) from None
    except UnicodeDecodeError as error:
        raise DataError("word vectors must be UTF-8 text", where=str(path), found=str(error)) from None
    if not vectors:
        raise DataError("no word vectors in this file", where=str(path), todo="give a GloVe text file")
    return vectors


def padded(rows: Iterable[Sequence[int]]) -> Tensor:
    """Rows of numbers as int64 [N, longest row], zeros behind the shorter ones."""
    return pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True)


FILE = "vocabulary.json"
SCHEMA_VERSION = 1
MAX_CHARS = 50  # ours: characters of a word that are read, a bound for links and the like
N_SPECIAL_CHARS = 2  # id 0: padding; 1: any character that is less than twice in the training posts
UNKNOWN_CHAR = 1


class Spelled(NamedTuple):
    """A post's words as rows of a word table and as character ids."""

    rows: tuple[int, ...]
    characters: tuple[tuple[int, ...], ...]

    @property
    def n_words(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Vocabulary:
    """Row 0 is the unknown word; then come `words`, the first `n_repeated` more than once in training; then `given`."""

    words: tuple[str, ...]  # keys of the training posts, the most frequent first
    n_repeated: int
    characters: tuple[str, ...]
    word_dim: int  # floats of a word's vector
    given: tuple[str, ...] = ()  # further keys, of a file of vectors

    @classmethod
    def of_posts(cls, posts: Iterable[Sequence[str]], word_dim: int) -> Self:
        """The vocabulary of the training posts; raises DataError if there is no word."""
        words = Counter(word for post in posts for word in post)
        if not words:
            raise DataError("a vocabulary needs training posts", found="none")
        keys, characters = Counter[str](), Counter[str]()
        for word, count in words.items():
            keys[key_of(word)] += count
            for character in word[:MAX_CHARS]:
                characters[character] += count
        ordered = sorted(keys, key=lambda key: (-keys[key], key))
        frequent = sorted(character for character, count in characters.items() if count > 1)
        return cls(tuple(ordered), sum(count > 1 for count in keys.values()), tuple(frequent), word_dim)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {key: row for row, key in enumerate((*self.words, *self.given), start=1)}

    @cached_property
    def _character_ids(self) -> dict[str, int]:
        return {character: number for number, character in enumerate(self.characters, start=N_SPECIAL_CHARS)}

    def encode(self, words: Sequence[str]) -> Spelled:
        """A post of at least one word, whatever the words contain; all of them get a vector."""
        ids = self._character_ids
        rows = tuple(self._rows.get(key_of(word), 0) for word in words)
        return Spelled(rows, tuple(tuple(ids.get(char, UNKNOWN_CHAR) for char in word[:MAX_CHARS]) for word in words))

    def collate(self, posts: Sequence[Spelled]) -> dict[str, Tensor]:
        """Tensors of a batch, all int64; each distinct spelling appears once.

        `words` [B, N] rows (0 at padding), `n_words` [B], `spellings` [U, C] character ids (0 at padding), `n_chars`
        [U], `spelling` [B, N] index among the U (0 at padding).
        """
        numbers: dict[tuple[int, ...], int] = {}
        spelling = [[numbers.setdefault(word, len(numbers)) for word in post.characters] for post in posts]
        return {
            "words": padded(post.rows for post in posts),
            "n_words": torch.tensor([post.n_words for post in posts]),
            "spellings": padded(numbers),
            "n_chars": torch.tensor([len(word) for word in numbers]),
            "spelling": padded(spelling),
        }

    def save(self, folder: Path) -> None:
        text = json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)})
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The inverse of `save`; raises RunError if the file is missing, damaged or has a different version."""
        path = folder / FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("schema_version") != SCHEMA_VERSION:
                raise ValueError(f"not version {SCHEMA_VERSION}")
            lists = {name: tuple(values[name]) for name in ("words", "characters", "given")}
            return cls(**lists, n_repeated=int(values["n_repeated"]), word_dim=int(values["word_dim"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            found = f"{type(error).__name__}: {error}"
            raise RunError("cannot read the vocabulary", where=str(path), found=found, todo="train again") from None


def draw_uniform(embedding: nn.Embedding) -> None:
    """U(-sqrt(3/E), sqrt(3/E)): Ma and Hovy, Section 3.1; every row, also that of padding, which is never read."""
    bound = (3 / embedding.embedding_dim) ** 0.5
    nn.init.uniform_(embedding.weight, -bound, bound)


class WordTable(nn.Module):
    """A vector for each row of a vocabulary: learned for words of the training posts, fixed for others of a file.

    All remaining words share one learned vector, which in training also replaces a random half of the words that occur
    once.
    """

    given: Tensor

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.learned = nn.Embedding(1 + len(vocabulary.words), vocabulary.word_dim)
        draw_uniform(self.learned)
        self.register_buffer("given", torch.zeros(len(vocabulary.given), vocabulary.word_dim))
        self.origin: dict[str, str] = {}  # digest of the file of vectors

    def save(self, folder: Path) -> None:
        """Write the vocabulary into a run's folder; the weights are saved apart."""
        self.vocabulary.save(folder)

    def forward(self, rows: Tensor) -> Tensor:
        """Vectors [B, N, E] of rows int64 [B, N]."""
        n_learned = self.learned.num_embeddings
        if self.training:
            once = (rows > self.vocabulary.n_repeated) & (rows < n_learned)
            rows = rows.masked_fill(once & (torch.rand(rows.shape, device=rows.device) < UNKNOWN_SHARE), 0)
        learned: Tensor = self.learned(rows.clamp(max=n_learned - 1))
        if not len(self.given):
            return learned
        return torch.where((rows >= n_learned)[..., None], self.given[(rows - n_learned).clamp(min=0)], learned)


def build_table(words: str, assets: Path | None, train_words: Iterable[Sequence[str]]) -> WordTable:
    """From the training posts and `words` (TrainConfig), or as a run saved it in `assets`, its weights to follow."""
    if assets is not None:
        return WordTable(Vocabulary.load(assets))
    vocabulary = Vocabulary.of_posts(train_words, WORD_DIM)
    if words == "random":
        return WordTable(vocabulary)
    vectors = read_vectors(Path(words), vocabulary.words)
    word_dim, own = len(next(iter(vectors.values()))), set(vocabulary.words)
    table = WordTable(replace(vocabulary, given=tuple(key for key in vectors if key not in own), word_dim=word_dim))
    with torch.no_grad():
        for row, key in enumerate(vocabulary.words, start=1):
            if key in vectors:
                table.learned.weight[row] = torch.from_numpy(vectors[key])
        for row, key in enumerate(table.vocabulary.given):
            table.given[row] = torch.from_numpy(vectors[key])
    table.origin = {"words": digest_file(words)}
    return table

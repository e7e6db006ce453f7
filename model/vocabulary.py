"""Words and characters as numbers, for approaches without a pretrained encoder: made of the training posts.

Letters: B posts, N words, U distinct words of a batch, C characters of a word.

Word vectors from a text file in GloVe's format: a word and its numbers a line, parted by spaces.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from torch import Tensor

from schema.errors import DataError, RunError, WeightsError

N_MORE = 100_000  # words of a file that no training post holds: ours; such files begin with the most frequent words
USER, URL = "<user>", "<url>"  # as GloVe's vectors of tweets name them


def key_of(word: str) -> str:
    """Under which name a word stands in tables and files: lower case, 0 for each digit (Lample et al., Section 5.2);
    one name for all links, one for all users.
    """
    lowered = word.lower()
    if lowered.startswith(("http://", "https://")):
        return URL
    return USER if lowered.startswith("@") and len(lowered) > 1 else re.sub("[0-9]", "0", lowered)


@dataclass(frozen=True)
class WordVectors:
    """Keys and their vectors, float32 [len(keys), dim]."""

    keys: tuple[str, ...]
    values: np.ndarray

    @property
    def dim(self) -> int:
        return int(self.values.shape[1])


def read_vectors(path: Path, wanted: Collection[str], n_more: int = N_MORE) -> WordVectors:
    """Vectors of the keys `wanted` and of the first `n_more` other keys of a file, in its order.

    The first of several words with one key counts. A word2vec header (`words numbers`) is passed over. Raises
    WeightsError where there is no such file, DataError for a line of another length or one that holds no numbers.
    """
    try:
        with path.open(encoding="utf-8", newline="\n") as file:  # vectors of tweets hold U+0085 and its like
            return _read(file, path, frozenset(wanted), n_more)
    except OSError as error:
        todo = "give train.words the path of a GloVe text file, or random"
        raise WeightsError("no such word vectors", where=str(path), found=type(error).__name__, todo=todo) from None
    except UnicodeDecodeError as error:
        raise DataError("word vectors must be UTF-8 text", where=str(path), found=str(error)) from None


def _read(file: TextIO, path: Path, wanted: frozenset[str], n_more: int) -> WordVectors:
    found: dict[str, np.ndarray] = {}
    dim, left = 0, n_more
    for number, line in enumerate(file, start=1):
        line = line.rstrip("\r\n")
        if number == 1 and _is_header(line):
            continue
        dim = dim or line.count(" ")
        key = key_of(line.partition(" ")[0])
        if key in found or (key not in wanted and not left):
            continue
        word, *numbers = line.rsplit(" ", dim)  # a few words hold spaces themselves
        key = key_of(word)
        if key not in found:
            found[key] = _vector(numbers, dim, f"{path}:{number}")
            left -= key not in wanted
    if not found:
        raise DataError("no word vectors in this file", where=str(path), todo="give a GloVe text file")
    return WordVectors(tuple(found), np.stack(list(found.values())))


def _vector(numbers: list[str], dim: int, where: str) -> np.ndarray:
    try:
        vector = np.array(numbers, dtype=np.float32)
    except ValueError:
        vector = np.empty(0, np.float32)
    if dim < 1 or vector.shape != (dim,) or not np.isfinite(vector).all():
        found = " ".join(numbers)
        raise DataError(f"a line of word vectors needs a word and {max(dim, 1)} numbers", where=where, found=found)
    return vector


def _is_header(line: str) -> bool:
    parts = line.split(" ")
    return len(parts) == 2 and all(part.isdecimal() for part in parts)


FILE = "vocabulary.json"
SCHEMA_VERSION = 1
MAX_CHARS = 50  # characters of a word that are read: ours, a bound for links and the like
N_SPECIAL_CHARS = 2  # id 0 pads, 1 is any character that the training posts hold less than twice
UNKNOWN_CHAR = 1


@dataclass(frozen=True)
class Spelled:
    """A post's words as rows of a word table and as character ids."""

    rows: tuple[int, ...]
    characters: tuple[tuple[int, ...], ...]

    @property
    def n_words(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Vocabulary:
    """Row 0 is the unknown word; then `words`, the first `n_repeated` of which occur again; then `given`."""

    words: tuple[str, ...]  # keys of the training posts, the most frequent first
    n_repeated: int
    characters: tuple[str, ...]
    word_dim: int  # floats of a word's vector
    given: tuple[str, ...] = ()  # further keys, of a file of vectors

    @classmethod
    def of_posts(cls, posts: Iterable[Sequence[str]], word_dim: int) -> Vocabulary:
        """Of the training posts' words; raises DataError where there is none."""
        words = Counter(word for post in posts for word in post)
        if not words:
            raise DataError("a vocabulary needs training posts", found="none")
        keys, characters = Counter[str](), Counter[str]()
        for word, count in words.items():
            keys[key_of(word)] += count
            for character in word[:MAX_CHARS]:
                characters[character] += count
        ordered = sorted(keys, key=lambda key: (-keys[key], key))
        known = sorted(one for one, count in characters.items() if count > 1)
        return cls(tuple(ordered), sum(count > 1 for count in keys.values()), tuple(known), word_dim)

    def extended(self, keys: Iterable[str], word_dim: int) -> Vocabulary:
        """With those keys that it lacks as `given` ones."""
        known = set(self.words)
        return replace(self, given=tuple(key for key in keys if key not in known), word_dim=word_dim)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {key: row for row, key in enumerate((*self.words, *self.given), start=1)}

    @cached_property
    def _characters(self) -> dict[str, int]:
        return {one: index for index, one in enumerate(self.characters, start=N_SPECIAL_CHARS)}

    @property
    def n_characters(self) -> int:
        """Ids that a character may have."""
        return N_SPECIAL_CHARS + len(self.characters)

    def encode(self, words: Sequence[str]) -> Spelled:
        """A post of at least one word, whatever the words hold; all of them get a vector."""
        ids = self._characters
        return Spelled(
            tuple(self._rows.get(key_of(word), 0) for word in words),
            tuple(tuple(ids.get(one, UNKNOWN_CHAR) for one in word[:MAX_CHARS]) for word in words),
        )

    def collate(self, posts: Sequence[Spelled]) -> dict[str, Tensor]:
        """Tensors of a batch, all int64: each distinct spelling stands there once.

        `words` [B, N] rows (0 at padding), `n_words` [B], `spellings` [U, C] character ids (0 at padding), `n_chars`
        [U], `spelling` [B, N] which of the U a word has (0 at padding).
        """
        places: dict[tuple[int, ...], int] = {}
        spelling = [[places.setdefault(word, len(places)) for word in post.characters] for post in posts]
        return {
            "words": _padded([post.rows for post in posts]),
            "n_words": torch.tensor([post.n_words for post in posts]),
            "spellings": _padded(list(places)),
            "n_chars": torch.tensor([len(word) for word in places]),
            "spelling": _padded(spelling),
        }

    def save(self, folder: Path) -> None:
        """Write FILE into a run's folder."""
        text = json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)})
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """The inverse; raises RunError for a file that is not there, damaged or of another layout."""
        path = folder / FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("schema_version") != SCHEMA_VERSION:
                raise ValueError(f"not version {SCHEMA_VERSION}")
            lists = {name: tuple(values[name]) for name in ("words", "characters", "given")}
            return cls(**lists, n_repeated=int(values["n_repeated"]), word_dim=int(values["word_dim"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            found = f"{type(error).__name__}: {error}"
            raise RunError("no readable vocabulary", where=str(path), found=found, todo="train again") from None


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])

"""Words and characters as numbers, for approaches without a pretrained encoder: made of the training posts.

Letters: B posts, N words, U distinct words of a batch, C characters of a word.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from model.vectors import key_of
from schema.errors import DataError, RunError

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

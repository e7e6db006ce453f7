"""Word vectors from a text file in GloVe's format: a word and its numbers a line, parted by spaces."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from schema.errors import DataError, WeightsError

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

"""Files of word vectors as people have them: which vectors are read, in which order, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from model.vocabulary import key_of, read_vectors
from schema.errors import DataError, WeightsError

GLOVE = "the 1 2\n<user> 3 4\nThe 5 6\n. . . 7 8\nrome\x85 9 1\nParis -1 0.5\r\nlast 2 2\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "vectors.txt"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("Rome", "rome"),
        ("@Ann_1", "<user>"),
        ("@", "@"),
        ("HTTPS://t.co/x", "<url>"),
        ("#Rome", "#rome"),
        ("9:45pm", "0:00pm"),
    ],
)
def test_keys(word: str, key: str) -> None:
    assert key_of(word) == key


def test_needed_words_and_the_first_of_the_others(tmp_path: Path) -> None:
    found = read_vectors(write(tmp_path, GLOVE), ["paris", "nowhere"], n_more=2)
    assert {key: vector.tolist() for key, vector in found.items()} == {
        "the": [1, 2],
        "<user>": [3, 4],
        "paris": [-1, 0.5],
    }
    assert list(found) == ["the", "<user>", "paris"]
    assert found["the"].dtype == np.float32


def test_every_word_of_a_small_file(tmp_path: Path) -> None:
    found = read_vectors(write(tmp_path, GLOVE), [])
    assert list(found) == ["the", "<user>", ". . .", "rome\x85", "paris", "last"], "the first of two spellings counts"
    assert found[". . ."].tolist() == [7, 8]


def test_skips_the_header_of_word2vec(tmp_path: Path) -> None:
    assert read_vectors(write(tmp_path, "2 3\na 1 2 3\nb 4 5 6\n"), []).keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a 1 2\nb 1\n", r"vectors\.txt:2: a line of word vectors needs a word and 2 numbers"),
        ("a 1 2\nb 1 x\n", r"vectors\.txt:2: .* \(found 1 x\)"),
        ("a 1 2\nb 1 nan\n", r"vectors\.txt:2: "),
        ("a\n", r"vectors\.txt:1: a line of word vectors needs a word and 1 numbers"),
        ("", r"no word vectors in this file; give a GloVe text file"),
    ],
)
def test_refuses(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(DataError, match=error):
        read_vectors(write(tmp_path, text), [])


def test_refuses_files_that_are_not_text_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(b"a 1\n\xff\xfe 2\n")
    with pytest.raises(DataError, match="word vectors must be UTF-8 text"):
        read_vectors(path, [])
    missing = re.escape(f"{tmp_path / 'gone'}: no such word vectors (found FileNotFoundError)")
    with pytest.raises(WeightsError, match=missing):
        read_vectors(tmp_path / "gone", [])

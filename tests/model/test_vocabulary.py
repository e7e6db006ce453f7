"""A vocabulary by hand: what its rows are, what a batch holds, and that it comes back from a run's folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from model.vocabulary import FILE, MAX_CHARS, Vocabulary
from schema.errors import DataError, RunError

POSTS = (("Ann", "saw", "ann"), ("@bob", "saw", "it", "\ud83d"), ("@eve",))


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary.of_posts(POSTS, 4)


def test_words_and_characters_by_hand(vocabulary: Vocabulary) -> None:
    assert vocabulary.words == ("<user>", "ann", "saw", "it", "\ud83d")
    assert vocabulary.n_repeated == 3
    assert vocabulary.characters == ("@", "a", "b", "e", "n", "s", "w"), "those that occur again"


def test_encoding_by_hand(vocabulary: Vocabulary) -> None:
    post = vocabulary.encode(("Saw", "@new", "rome", "an"))
    assert post.rows == (3, 1, 0, 0)
    assert post.characters == ((1, 3, 8), (2, 6, 5, 8), (1, 1, 1, 5), (3, 6))
    assert post.n_words == 4
    assert len(vocabulary.encode(("a" * 1000,)).characters[0]) == MAX_CHARS


def test_a_batch_holds_each_spelling_once(vocabulary: Vocabulary) -> None:
    batch = vocabulary.collate([vocabulary.encode(words) for words in (("saw", "an", "saw"), ("an",))])
    assert {name: value.tolist() for name, value in batch.items()} == {
        "words": [[3, 0, 3], [0, 0, 0]],
        "n_words": [3, 1],
        "spellings": [[7, 3, 8], [3, 6, 0]],
        "n_chars": [3, 2],
        "spelling": [[0, 1, 0], [1, 0, 0]],
    }


def test_further_keys_come_behind(vocabulary: Vocabulary) -> None:
    more = replace(vocabulary, given=("rome", "oslo"))
    assert more.encode(("Oslo", "ann", "paris")).rows == (7, 2, 0)


def test_it_comes_back(vocabulary: Vocabulary, tmp_path: Path) -> None:
    more = replace(vocabulary, given=("rome",), word_dim=7)
    more.save(tmp_path)
    assert Vocabulary.load(tmp_path) == more


def test_refuses(vocabulary: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a vocabulary needs training posts"):
        Vocabulary.of_posts([], 4)
    with pytest.raises(
        RunError, match=r"vocabulary\.json: cannot read the vocabulary .*FileNotFoundError.*; train again"
    ):
        Vocabulary.load(tmp_path)
    vocabulary.save(tmp_path)
    values = json.loads((tmp_path / FILE).read_text())
    for broken in ("[]", "{", json.dumps({**values, "schema_version": 9}), json.dumps({"schema_version": 1, "x": 2})):
        (tmp_path / FILE).write_text(broken)
        with pytest.raises(RunError, match="cannot read the vocabulary"):
            Vocabulary.load(tmp_path)

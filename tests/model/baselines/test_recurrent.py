"""Vectors of words: which are learned, given or shared, and what a run remembers of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cache.keys import digest_file
from model.approaches import approach
from model.baselines.recurrent import RecurrentTagger
from model.tagger import ModelSpec
from model.vocabulary import Vocabulary, WordTable, build_table
from schema.errors import DataError
from tests.model.tiny import LABELS, tiny_config

WORDS = [("the", "rex", "the"), ("a", "rex", "boat"), ("a",)]  # boat stands there once
FILE = "the 1 2 3\nrome 4 5 6\nboat 7 8 9\n"


def given(encoder: Path, **changes: object) -> ModelSpec:
    return ModelSpec(tiny_config(encoder, objects="none", **changes), LABELS, 1, None, WORDS)


def table_of(spec: ModelSpec) -> WordTable:
    return build_table(spec.config.words, spec.assets, spec.train_words)


def vectors(folder: Path) -> Path:
    path = folder / "vectors.txt"
    path.write_text(FILE)
    return path


def test_random_vectors_are_uniform(encoder: Path) -> None:
    torch.manual_seed(0)
    table = table_of(given(encoder))
    vocabulary = table.vocabulary
    assert (vocabulary.words, vocabulary.n_repeated, vocabulary.word_dim) == (("a", "rex", "the", "boat"), 3, 100)
    assert table.learned.weight.shape == (5, 100)
    bound = (3 / 100) ** 0.5
    assert 0.9 * bound < float(table.learned.weight.detach().abs().max()) <= bound
    assert table.origin == {}


def test_a_file_fills_learned_rows_and_brings_its_other_words(encoder: Path, tmp_path: Path) -> None:
    path = vectors(tmp_path)
    table = table_of(given(encoder, words=str(path)))
    vocabulary = table.vocabulary
    found = table.eval()(torch.tensor([vocabulary.encode(("The", "boat", "Rome", "rex", "oslo")).rows]))[0]
    assert found[:3].tolist() == [[1, 2, 3], [7, 8, 9], [4, 5, 6]]
    assert torch.equal(found[3:], table.learned.weight[[2, 0]])
    assert table.origin == {"words": digest_file(path)}
    found.sum().backward()
    assert table.learned.weight.grad is not None
    assert table.learned.weight.grad.sum(1).tolist() == [3, 0, 3, 3, 3], "oslo is the unknown word; rome's row is fixed"
    assert "given" in table.state_dict()


def test_half_of_the_words_that_occur_once_are_unknown_in_training() -> None:
    table = WordTable(Vocabulary(("often", "once"), 1, (), word_dim=2, given=("given",)))
    table.given.fill_(9.0)
    rows = torch.tensor([[1, 2, 3]]).expand(4000, -1)
    torch.manual_seed(0)
    found = table.train()(rows)
    assert torch.equal(found[:, 0], table.learned.weight[[1]].expand(4000, -1))
    assert torch.equal(found[:, 2], torch.full((4000, 2), 9.0))
    unknown = (found[:, 1] == table.learned.weight[0]).all(1)
    assert torch.equal(found[~unknown, 1], table.learned.weight[[2]].expand(int((~unknown).sum()), -1))
    assert float(unknown.float().mean()) == pytest.approx(0.5, abs=0.03)
    assert torch.equal(table.eval()(rows)[:, 1], table.learned.weight[[2]].expand(4000, -1))


@pytest.mark.parametrize("name", ["hbilstm-crf", "vg-att"])
def test_a_run_does_not_need_the_file(encoder: Path, tmp_path: Path, name: str) -> None:
    path = vectors(tmp_path)
    setting = given(encoder, words=str(path))
    tagger = approach(name).build(setting)
    assert isinstance(tagger, RecurrentTagger)
    assert tagger.words.origin == {"words": digest_file(path)}
    (tmp_path / "encoder").mkdir()
    tagger.words.save(tmp_path / "encoder")
    path.unlink()
    again = approach(name).build(ModelSpec(setting.config, LABELS, 1, tmp_path / "encoder"))
    again.load_state_dict(tagger.state_dict())
    assert isinstance(again, RecurrentTagger)
    assert (again.words.vocabulary, again.words.origin) == (tagger.words.vocabulary, {})
    assert again.words.given.tolist() == [[4, 5, 6]]


def test_training_needs_posts(encoder: Path) -> None:
    with pytest.raises(DataError, match="a vocabulary needs training posts"):
        table_of(ModelSpec(tiny_config(encoder), LABELS, 1))

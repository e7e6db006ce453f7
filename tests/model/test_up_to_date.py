"""A run is fresh until something that decides its numbers changes: settings, seed, data, word vectors, encoder."""

import shutil

import pytest

from model import train
from model.approaches import approach
from model.train import digests_of, is_up_to_date
from tests.model.tiny import VOCABULARY, tiny_config, write_encoder


@pytest.fixture
def trained(dataset, tmp_path):
    """Trains an approach with changes; returns the run, its settings and its data's digests."""

    def made(name, **changes):
        config = tiny_config(tmp_path / "encoder", epochs=1, **changes)
        run = tmp_path / name
        list(train.run(config, name, 0, dataset[0], None, run, tmp_path / "resume", device="cpu"))
        return run, approach(name).configure(config), digests_of(dataset[0], None)

    write_encoder(tmp_path / "encoder", VOCABULARY)
    return made


def test_a_changed_file_of_word_vectors_makes_its_run_stale(trained, tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("the 1 2 3\nin 3 2 1\n")
    run, config, digests = trained("hbilstm-crf", words=str(path))
    assert is_up_to_date(run, config, 0, digests)
    path.write_text("the 1 2 3\nin 3 2 2\n")
    assert not is_up_to_date(run, config, 0, digests)
    path.unlink()  # nothing to compare with: a run that was pulled stays
    assert is_up_to_date(run, config, 0, digests)


def test_a_changed_encoder_makes_its_run_stale(trained, tmp_path):
    run, config, digests = trained("bert-crf")
    assert is_up_to_date(run, config, 0, digests)
    write_encoder(tmp_path / "encoder", VOCABULARY, seed=1)
    assert not is_up_to_date(run, config, 0, digests)
    shutil.rmtree(tmp_path / "encoder")
    assert is_up_to_date(run, config, 0, digests)
    assert not is_up_to_date(run, config, 1, digests)
    assert not is_up_to_date(run, config.model_copy(update={"epochs": 2}), 0, digests)
    assert not is_up_to_date(run, config, 0, digests | {"posts": "others"})
    assert not is_up_to_date(run, config, 0, digests | {"pack": "a new one"})
    (run / "model" / "weights.safetensors").write_bytes(b"cut")
    assert not is_up_to_date(run, config, 0, digests)

import json

import PIL.Image
import pytest

from commands.doctor.data import dataset, tokenizer_of
from project import Project
from tests import own
from tests.model.tiny import write_encoder


def findings(root, params=own.PARAMS):
    (root / "params.yaml").write_text(params)
    return list(dataset(Project.open(root / "params.yaml"), "own", lambda done, total: None))


@pytest.fixture
def root(tmp_path):
    own.write_posts(tmp_path / "data" / "own", {"train": 2, "dev": 1, "test": 1})
    return tmp_path


def lines(found, level):
    return [one.what for one in found if one.level == level]


def write(root, split, *rows):
    text = "".join(json.dumps({"id": str(n), **row}) + "\n" for n, row in enumerate(rows))
    (root / "data/own" / f"{split}.jsonl").write_text(text)


def test_nothing_is_said_of_good_data(root):
    found = findings(root)
    assert lines(found, "problem") == []
    assert not [line for line in lines(found, "note") if not line.startswith("no entity of type")]


def test_pictures_missing_broken_and_unused_are_named(root):
    folder = root / "data/own/images"
    (folder / "train-00000.png").unlink()
    (folder / "train-00001.png").write_bytes(b"no picture")
    PIL.Image.new("RGB", (4, 4)).save(folder / "extra.png")
    notes = lines(findings(root), "note")
    assert any(line.startswith("1 picture(s) missing: train-00000.png: no such file") for line in notes)
    assert any(line.startswith("1 picture(s) broken: train-00001.png") for line in notes)
    assert any(line == "1 picture(s) that no post names: extra.png" for line in notes)


def test_toys_refuse_a_photograph_before_the_stage_does(root):
    PIL.Image.new("RGB", (4, 4)).save(root / "data/own/images/train-00000.png")
    found = [one for one in findings(root) if one.level == "problem"]
    assert [one.what.split(" was")[0] for one in found] == ["toy-onestage", "toy-resnet"]
    assert "allow_synthetic: true" in found[0].todo
    allowed = own.PARAMS.replace("preset: embedded, n_b", "preset: embedded, allow_synthetic: true, n_b").replace(
        "ground: {preset: embedded}", "ground: {grounder: whole-image}"
    )
    assert lines(findings(root, allowed), "problem") == []


def test_training_needs_labelled_train_and_dev_posts(root):
    write(root, "dev", {"tokens": ["Ann"]})
    assert lines(findings(root), "problem") == ["it is in train_on and has no labelled dev posts"]
    params = own.PARAMS.replace("{preset: jsonl}", "{preset: jsonl, files: {train: train.jsonl}}")
    assert lines(findings(root, params), "problem") == ["it is in train_on and has no labelled dev posts"]


def test_odd_labels_and_ids_are_counted(root):
    write(root, "train", {"tokens": ["Ann", "Lee"], "labels": ["O", "I-PER"]}, {"id": "0", "tokens": ["x"]})
    notes = lines(findings(root), "note")
    assert "1 orphan I- tag(s)" in notes
    assert "1 train post(s) without labels" in notes
    assert any(line.startswith("1 repeated id(s)") for line in notes)


def test_words_that_the_encoder_cannot_read(root):
    write(root, "train", {"tokens": ["Ann", "\ufe0f", "\U0001f9ff"], "labels": ["B-PER", "O", "O"]})
    notes = lines(findings(root), "note")
    assert any(line.startswith("1 word(s) without a piece in the encoder (1 times)") for line in notes)
    assert any(line.startswith("1 word(s) unknown to the vocabulary in the encoder (1 times)") for line in notes)


def test_an_encoder_that_is_not_here_is_said(root, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    params = own.PARAMS.replace("preset: tiny,", "preset: tiny, encoder: some/model,")
    assert any(
        line.startswith("words were not looked up: the encoder some/model is missing")
        for line in lines(findings(root, params), "note")
    )


def test_a_drawn_dataset_that_is_not_drawn_yet_is_no_problem(tmp_path):
    params = own.PARAMS.replace("draw: {}", "draw: {own: {}}")
    assert [(one.level, one.todo) for one in findings(tmp_path, params)] == [
        ("note", "fmit draw own (dvc repro does it)")
    ]
    (problem,) = lines(findings(tmp_path), "problem")
    assert "no train file" in problem


def test_the_tokenizer_is_the_one_that_training_uses(root):
    from model.config import TrainConfig
    from model.words import build_words

    (root / "params.yaml").write_text(own.PARAMS)
    tokenizer = tokenizer_of(Project.open(root / "params.yaml"), "own")
    assert tokenizer.get_vocab() == build_words(TrainConfig()).featurizer.tokenizer.get_vocab()


def test_a_tokenizer_that_is_cut_short_is_a_remark(root, tmp_path):
    encoder = write_encoder(tmp_path / "encoder")
    files = [path for path in encoder.glob("*.json") if path.name.startswith("tokenizer")]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:20])
    found = findings(root, own.PARAMS.replace("preset: tiny,", f"preset: tiny, encoder: {encoder},"))
    assert any("has no readable tokenizer (found tokenizer" in line for line in lines(found, "note"))

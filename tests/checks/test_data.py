import json
import re

import PIL.Image
import pytest

from checks.data import check_dataset, check_labels, load_tokenizer
from pipeline.corpus.config import SourceConfig
from project import Project
from tests import own
from tests.model.tiny import write_encoder


def findings(root, params=own.PARAMS):
    (root / "params.yaml").write_text(params)
    return list(check_dataset(Project.open(root / "params.yaml"), "own", lambda done, total: None))


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


def test_images_missing_broken_and_unused_are_named(root):
    folder = root / "data/own/images"
    (folder / "train-00000.png").unlink()
    (folder / "train-00001.png").write_bytes(b"no image")
    PIL.Image.new("RGB", (4, 4)).save(folder / "extra.png")
    notes = lines(findings(root), "note")
    assert any(line.startswith("1 image(s) missing: train-00000.png: no such file") for line in notes)
    assert any(line.startswith("1 image(s) broken: train-00001.png") for line in notes)
    assert any(line == "1 image(s) that no post names: extra.png" for line in notes)


def test_a_photograph_that_the_synthetic_grounder_would_refuse_is_a_problem(root):
    PIL.Image.new("RGB", (4, 4)).save(root / "data/own/images/train-00000.png")
    found = [one for one in findings(root) if one.level == "problem"]
    assert [one.what.split(" was")[0] for one in found] == ["synthetic-grounder"]
    assert found[0].todo == "set data.own.ground to {preset: embedded}, which works on photographs"
    for ground in ("{preset: embedded}", "{preset: synthetic, allow_synthetic: true}"):
        params = own.PARAMS.replace("ground: {preset: synthetic}", f"ground: {ground}")
        assert lines(findings(root, params), "problem") == []


def test_training_needs_labelled_train_and_dev_posts(root):
    write(root, "dev", {"tokens": ["Ann"]})
    assert lines(findings(root), "problem") == ["it is in train_on and has no labeled dev posts"]
    params = own.PARAMS.replace("{preset: jsonl}", "{preset: jsonl, files: {train: train.jsonl}}")
    assert lines(findings(root, params), "problem") == ["it is in train_on and has no labeled dev posts"]


def test_orphan_tags_missing_labels_and_repeated_ids_are_counted(root):
    write(root, "train", {"tokens": ["Ann", "Lee"], "labels": ["O", "I-PER"]}, {"id": "0", "tokens": ["x"]})
    notes = lines(findings(root), "note")
    assert any(line.startswith("1 I- tag(s) do not continue an entity") for line in notes)
    assert "1 train post(s) without labels" in notes
    assert any(line.startswith("1 repeated id(s)") for line in notes)


def test_words_that_the_encoder_cannot_read(root):
    write(root, "train", {"tokens": ["Ann", "\ufe0f", "\U0001f9ff"], "labels": ["B-PER", "O", "O"]})
    notes = lines(findings(root), "note")
    assert any(line.startswith("1 word(s) without a word piece of the encoder (1 times)") for line in notes)
    assert any(line.startswith("1 word(s) not in the vocabulary of the encoder (1 times)") for line in notes)


def test_an_encoder_that_is_not_here_is_said(root, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    params = own.PARAMS.replace("preset: tiny,", "preset: tiny, encoder: some/model,")
    assert any(
        line.startswith("words were not looked up: the encoder 'some/model' is not on this machine")
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
    tokenizer = load_tokenizer(Project.open(root / "params.yaml"), "own")
    assert tokenizer.get_vocab() == build_words(TrainConfig()).featurizer.tokenizer.get_vocab()


def test_a_tokenizer_that_is_cut_short_is_a_remark(root, tmp_path):
    encoder = write_encoder(tmp_path / "encoder")
    files = [path for path in encoder.glob("*.json") if path.name.startswith("tokenizer")]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:20])
    found = findings(root, own.PARAMS.replace("preset: tiny,", f"preset: tiny, encoder: {encoder},"))
    assert any("cannot be read (found tokenizer" in line for line in lines(found, "note"))


def test_no_stage_means_no_problem_with_synthetic_parts(root):
    PIL.Image.new("RGB", (4, 4)).save(root / "data/own/images/train-00000.png")
    params = own.PARAMS.replace("datasets: [own]", "datasets: [other]")
    assert not [line for line in lines(findings(root, params), "problem") if "rejects" in line]


def test_mostly_unusable_images_are_a_problem(root):
    folder = root / "data/own/images"
    for path in sorted(folder.iterdir())[:2]:
        path.write_bytes(b"no image")
    assert lines(findings(root), "problem") == []
    for path in sorted(folder.iterdir())[2:3]:
        path.unlink()
    (found,) = [one for one in findings(root) if one.level == "problem"]
    assert found.what.startswith("3 of 4 images cannot be used (1 missing, 2 broken)")


@pytest.mark.parametrize(
    ("split", "effect"),
    [("train", "the model cannot learn any entity"), ("dev", "no epoch can be better than another")],
)
def test_a_split_without_entities_is_a_problem(root, split, effect):
    write(root, split, {"tokens": ["Ann"], "labels": ["O"]})
    assert lines(findings(root), "problem") == [f"it is in train_on and its {split} posts have no entity, so {effect}"]
    assert lines(findings(root, own.PARAMS.replace("train_on: [own]", "train_on: []")), "problem") == []


def test_labels_that_share_nothing_with_the_data_are_a_problem(root):
    write(root, "train", {"tokens": ["x"], "labels": ["B-GENE"]})
    for split in ("dev", "test"):
        write(root, split, {"tokens": ["x"], "labels": ["B-DRUG"]})
    found = [one for one in findings(root) if one.level == "problem"]
    assert found[-1].what == "source.labels (PER, LOC, ORG, MISC) has no type in common with the data"
    assert found[-1].todo.endswith("to the data's types: DRUG, GENE")


def test_objects_that_the_cap_cuts_are_reported(root):
    from pipeline.engine import silent

    (root / "params.yaml").write_text(own.PARAMS)
    project = Project.open(root / "params.yaml")
    project.ingest("own", silent)
    project.phrases("own", silent)
    assert not [line for line in lines(findings(root), "note") + lines(findings(root), "problem") if "cuts" in line]
    few = own.PARAMS.replace("preset: tiny,", "preset: tiny, max_objects: 1,")
    (found,) = [one for one in findings(root, few) if one.level == "problem"]
    assert re.fullmatch(r"train.max_objects 1 cuts \d+ object\(s\) of 4 post\(s\), \d+ of them phrases", found.what)
    some = own.PARAMS.replace("preset: tiny,", "preset: tiny, max_objects: 6,")
    assert any(line.endswith(", 0 of them phrases") for line in lines(findings(root, some), "note"))
    assert lines(findings(root, some.replace("[fmit]", "[bert-crf]")), "problem") == []


CONLL = "IMGID:1\nAnn\tB-PER\nin\tO\nRome\tB-GPE\nand\tI-GPE\nOslo\tB-CITY\nx\tS-LOC\ny\tPER\nz\tB-OTHER\n"


def label_problems(tmp_path, text: str, **section) -> list[str]:
    config = SourceConfig(**section)
    path = tmp_path / "train"
    path.write_text(text)
    return [one.what for one in check_labels("data", config, {"train": path})]


def test_all_unknown_types_and_tags_are_listed_with_their_numbers(tmp_path):
    assert label_problems(tmp_path, CONLL) == [
        "types that are not in source.labels: GPE (2), CITY (1)",
        "labels that are not iob2 tags: S-LOC (1), PER (1)",
    ]
    assert label_problems(tmp_path, CONLL, scheme="bioes", aliases={"GPE": "LOC", "CITY": "LOC", "OTHER": "MISC"}) == [
        "labels that are not bioes tags: PER (1)"
    ]


def test_of_many_unknown_types_the_most_frequent_are_listed(tmp_path):
    text = "IMGID:1\n" + "".join(f"w\tB-T{k}\n" for k in range(20))
    line, _ = label_problems(tmp_path, text)
    assert line.endswith("T7 (1) and 12 more")


def test_jsonl_with_tokens_or_text(tmp_path):
    rows = [
        {"id": "1", "tokens": ["a"], "labels": ["B-GPE"]},
        {"id": "2", "text": "a", "entities": [{"start": 0, "end": 1, "type": "GPE"}, 3]},
        {"id": "3", "tokens": ["a"], "labels": [3]},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + "{broken\n[]\n"
    assert label_problems(tmp_path, text, format="jsonl") == [
        "types that are not in source.labels: GPE (2)",
        "source.labels (PER, LOC, ORG, MISC) has no type in common with the data",
    ]


@pytest.mark.parametrize("text", ["", "IMGID:1\nAnn\tB-PER\n"])
def test_nothing_wrong_is_nothing_label_problems(tmp_path, text):
    assert label_problems(tmp_path, text) == []


def test_files_that_only_seem_to_be_known_are_noted(root):
    (root / "data/own").rename(root / "data/twitter2015")
    (root / "params.yaml").write_text(own.PARAMS.replace("own", "twitter2015"))
    found = check_dataset(Project.open(root / "params.yaml"), "twitter2015", lambda done, total: None)
    assert any("no known variant of twitter2015 has these files" in line for line in lines(found, "note"))

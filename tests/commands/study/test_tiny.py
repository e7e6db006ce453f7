import json
from collections import Counter

import yaml

from cache.keys import digest_file
from commands.study.tiny import DATASETS, SIZES, open_tiny
from synthetic.draw import DrawConfig
from tests.commands.study.made_study import make_study


def labels(path):
    return Counter(label for line in path.read_text().splitlines() for label in json.loads(line)["labels"])


def test_posts_are_drawn_once_and_cut_to_size(tmp_path, monkeypatch):
    import synthetic.draw

    block = DrawConfig(n_train=80, n_dev=0, n_test=0)
    monkeypatch.setitem(synthetic.draw.PRESETS, "tiny", block)
    study = open_tiny(tmp_path, ("fmit",), sizes={"train": 7})
    first, other = (study.data(name) / "train.jsonl" for name in DATASETS)
    assert [len(path.read_text().splitlines()) for path in (first, other)] == [7, 7]
    assert sum(labels(first).values()) > 7
    assert first.read_text() != other.read_text()
    before = digest_file(first), first.stat().st_mtime_ns
    open_tiny(tmp_path, ("fmit",), sizes={"train": 7})
    assert (digest_file(first), first.stat().st_mtime_ns) == before


def test_the_second_dataset_calls_misc_other_and_the_two_are_crossed(tmp_path):
    study = make_study(tmp_path)
    names = [set(labels(study.data(name) / "train.jsonl")) for name in DATASETS]
    assert any("MISC" in label for label in names[0])
    assert not any("MISC" in label for label in names[1])
    assert {label.replace("OTHER", "MISC") for label in names[1]} == names[0]
    assert [(one.train, one.score) for one in study.asked.crossings] == [DATASETS, DATASETS[::-1]]
    assert study.asked.tiny


def test_sizes_are_those_of_the_promise():
    assert dict(SIZES) == {"train": 150, "dev": 50, "test": 50}


def test_the_folder_is_a_project_that_other_commands_open(tmp_path):
    study = make_study(tmp_path)
    params = yaml.safe_load((tmp_path / "project" / "params.yaml").read_text())
    assert params["data"]["tiny"]["train"]["preset"] == "tiny"
    assert study.home.params.dataset("tiny").train["epochs"] == 1

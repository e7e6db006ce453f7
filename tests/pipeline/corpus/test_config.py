import pytest
import yaml

from pipeline.corpus.config import PRESETS, SourceConfig
from schema.errors import ConfigError


def source(**values):
    return SourceConfig.from_section(values, "data.mine.source", PRESETS)


def test_valid_and_dev_are_one_split_in_the_order_of_splits():
    assert list(source(files={"test": "c", "valid": "b", "train": "a"}).files.items()) == [
        ("train", "a"),
        ("dev", "b"),
        ("test", "c"),
    ]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"files": {"valid": "a", "dev": "b"}}, "valid and dev are the same split"),
        ({"files": {"training": "a"}}, "unknown split training, use train, dev, test"),
        ({"files": {}}, "name at least one file"),
        ({"labels": {}}, "a label set needs at least one type"),
        ({"aliases": {"OTHER": "THING"}}, r"alias OTHER names a type that is not in labels \(found THING\)"),
        ({"scheme": "bio"}, r"data\.mine\.source\.scheme"),
        ({"fields": {"sentence": "text"}}, "unknown field sentence, use id, tokens, labels, text, entities, images"),
        ({"split": {"dev": 0.1}}, r"split\.dev is cut from train: give files\.train but not files\.dev"),
        ({"columns": {"token": 0}}, r"data\.mine\.source\.columns\.token: unknown key"),
        ({"image_sufix": ".png"}, r"data\.mine\.source\.image_sufix: unknown key, did you mean image_suffix\?"),
        ({"preset": "conl"}, "unknown preset 'conl'; use one of conll, doccano, jsonl, labelstudio, prodigy, smoke"),
    ],
)
def test_wrong_sections_are_named(values, text):
    with pytest.raises(ConfigError, match=text):
        source(**values)


def test_a_key_beside_a_preset_overrides_it():
    config = source(preset="jsonl", files={"train": "mine.jsonl"}, image_suffix=".webp")
    assert (config.format, config.files, config.image_suffix) == ("jsonl", {"train": "mine.jsonl"}, ".webp")


def test_default_aliases_hold_as_far_as_their_types_do():
    assert dict(source().label_set().aliases) == {"OTHER": "MISC"}
    assert dict(source(labels={"PER": "person", "OTHER": "thing"}).label_set().aliases) == {}
    assert dict(source(labels={"MISC": "misc", "OTHER": "thing"}).label_set().aliases) == {}
    assert dict(source(aliases={}).label_set().aliases) == {}


def test_a_named_file_that_is_absent_is_an_error(tmp_path):
    (tmp_path / "a.txt").touch()
    assert source(files={"train": "a.txt"}).paths(tmp_path) == {"train": tmp_path / "a.txt"}
    with pytest.raises(ConfigError, match=r"valid\.txt: no dev file; put it there, or leave dev out of source\.files"):
        source(files={"train": "a.txt", "dev": "valid.txt"}).paths(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "labels: {NO: person}",
            r"source\.labels\.0: .* \(found False\); YAML reads yes, no, .* in quotes, such as 'NO'",
        ),
        ("tokenizer: no", r"source\.tokenizer: .* \(found False\); YAML reads yes"),
        (
            "files: {train: 2017}",
            r"source\.files\.train: .* \(found 2017\); YAML reads it as a number: write '2017' in quotes",
        ),
        ("files: {train: 2017-01-02}", "YAML reads it as a date: write '2017-01-02' in quotes"),
    ],
)
def test_values_that_yaml_reads_as_something_else(text, message):
    with pytest.raises(ConfigError, match=message):
        source(**yaml.safe_load(text))

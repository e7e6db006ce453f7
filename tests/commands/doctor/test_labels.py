"""Every unknown label is told at once, with its number; files that pass for a known corpus are looked up."""

import json

import pytest

from commands.doctor.findings import note, ok
from commands.doctor.labels import unknown_labels, variant
from pipeline.corpus.config import SourceConfig
from pipeline.corpus.variants import VARIANTS

CONLL = "IMGID:1\nAnn\tB-PER\nin\tO\nRome\tB-GPE\nand\tI-GPE\nOslo\tB-CITY\nx\tS-LOC\ny\tPER\nz\tB-OTHER\n"


def told(tmp_path, text: str, **section) -> list[str]:
    config = SourceConfig(**section)
    path = tmp_path / "train"
    path.write_text(text)
    return [one.what for one in unknown_labels("data", config, {"train": path})]


def test_types_and_tags_are_told_with_their_numbers(tmp_path):
    assert told(tmp_path, CONLL) == [
        "types that source.labels does not know: GPE (2), CITY (1)",
        "labels that are no iob2 tags: S-LOC (1), PER (1)",
    ]
    assert told(tmp_path, CONLL, scheme="bioes", aliases={"GPE": "LOC", "CITY": "LOC", "OTHER": "MISC"}) == [
        "labels that are no bioes tags: PER (1)"
    ]


def test_many_types_are_told_in_part(tmp_path):
    text = "IMGID:1\n" + "".join(f"w\tB-T{k}\n" for k in range(20))
    (line,) = told(tmp_path, text)
    assert line.endswith("T7 (1) and 12 more")


def test_jsonl_with_tokens_or_text(tmp_path):
    rows = [
        {"id": "1", "tokens": ["a"], "labels": ["B-GPE"]},
        {"id": "2", "text": "a", "entities": [{"start": 0, "end": 1, "type": "GPE"}, 3]},
        {"id": "3", "tokens": ["a"], "labels": [3]},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + "{broken\n[]\n"
    assert told(tmp_path, text, format="jsonl") == ["types that source.labels does not know: GPE (2)"]


@pytest.mark.parametrize("text", ["", "IMGID:1\nAnn\tB-PER\n"])
def test_nothing_wrong_is_nothing_told(tmp_path, text):
    assert told(tmp_path, text) == []


def test_known_files_and_files_that_pass_for_them():
    train, dev = list(VARIANTS)[:2]
    assert variant("data", {"train": train, "dev": dev}, "mine") == ok(
        "data", "the files are the known variant twitter2015-umt"
    )
    assert variant("data", {"train": "0" * 64}, "mine") is None
    found = variant("data", {"train": train, "dev": "0" * 64}, "twitter2015")
    assert found is not None
    assert (found.level, "has these files: dev" in found.what) == (note("data", "").level, True)

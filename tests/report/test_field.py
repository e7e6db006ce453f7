import json
from dataclasses import replace

import pytest

from report.field import Field
from schema.errors import RunError
from tests.report.made_field import make_field


def test_runs_metrics_and_lines_by_name(tmp_path):
    field = make_field(tmp_path, {"fmit": {1}, "bert-crf": {0, 2}}, seeds=(0, 3))
    assert field.datasets == ("made",)
    assert field.split("made") == "test"
    assert field.types("made") == ("PER", "LOC", "ORG", "MISC")
    assert field.present("made") == ["fmit", "bert-crf"]
    assert list(field.of("made", "fmit")) == [0, 3]
    assert field.metrics("made", "fmit")[3]["split"] == "test"
    lines = field.lines("made", "bert-crf", 3)
    assert [bool(line.predicted) for line in lines] == [False, True, False, True, True, True]


def test_dev_is_shown_where_test_is_not_scored(tmp_path):
    field = make_field(tmp_path, {"fmit": set()})
    assert replace(field, splits=("dev",)).split("made") == "dev"


def test_scores_on_another_dataset_lie_beside_the_runs(tmp_path):
    field = make_field(tmp_path, {"fmit": set()})
    both = Field({**field.posts, "other": field.posts["made"]}, field.runs, ("fmit",), (0,))
    assert both.metrics("made", "fmit", "other") == {}
    scores = tmp_path / "crossed" / "made-to-other" / "made-fmit-0" / "scores"
    scores.mkdir(parents=True)
    there = field.metrics("made", "fmit")[0] | {"n_posts": 1}
    (scores / "metrics-test.json").write_text(json.dumps(there))
    assert both.metrics("made", "fmit", "other") == {0: there}
    (scores / "metrics-test.json").write_text("[]")
    with pytest.raises(RunError, match=r"metrics-test.json: not a JSON object .*; remove the run's scores/ and score it"):
        both.metrics("made", "fmit", "other")


def test_known_entities_are_those_of_the_training_posts(tmp_path):
    field = make_field(tmp_path, {"fmit": set()})
    train = [post for post in field.table("made").posts if post.split == "train"]
    known = field.known_entities("made")
    assert all(name == name.casefold() for name in known)
    texts = {" ".join(post.words).casefold() for post in train}
    assert known
    assert all(any(name in text for text in texts) for name in known)


def test_why_a_row_has_no_figures(tmp_path):
    missing = {("made", "umt"): "no grid"}
    field = make_field(tmp_path, {"fmit": set()}, seeds=(0, 1), approaches=("fmit", "umt", "umgf"), missing=missing)
    assert field.why("made", "fmit") == ""
    assert field.why("made", "umt") == "not run: no grid"
    assert field.why("made", "umgf") == "not run: not asked for"
    assert field.why("twitter2015", "fmit") == "not run: twitter2015 is not among the tables' datasets"
    part = Field(field.posts, {("made", "fmit", 1): tmp_path}, ("fmit",), (0, 1))
    assert part.why("made", "fmit") == "1 of 2 seeds"


def test_a_run_without_predictions_is_an_error_of_ours(tmp_path):
    field = make_field(tmp_path, {"fmit": set()})
    (field.runs["made", "fmit", 0] / "scores" / "predictions-test.jsonl").unlink()
    with pytest.raises(RunError, match="not scored; run `fmit tables` again"):
        field.lines("made", "fmit", 0)

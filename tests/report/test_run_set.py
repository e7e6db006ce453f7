"""Runs by dataset, approach and seed: what is read, what is left out, and why a row has no scores."""

import json
from dataclasses import replace

import pytest

from cache.keys import digest_bytes, digest_file
from report.breakdown import known_entities
from report.runs import RunSet, find_scores
from schema.errors import RunError
from tests.report.example_runs import make_runs


def test_runs_metrics_and_predictions_by_name(tmp_path):
    runs = make_runs(tmp_path, {"fmit": {1}, "bert-crf": {0, 2}}, seeds=(0, 3))
    assert tuple(runs.posts) == ("made",)
    assert runs.split("made") == "test"
    assert runs.table("made").labels.types == ("PER", "LOC", "ORG", "MISC")
    assert runs.scored("made") == ["fmit", "bert-crf"]
    assert list(runs.folders("made", "fmit")) == [0, 3] == list(runs.seeds)
    assert [one["split"] for one in runs.metrics("made", "fmit")] == ["test", "test"]
    lines = runs.predictions("made", "bert-crf", 3)
    assert [bool(line.predicted) for line in lines] == [False, True, False, True, True, True]


def test_dev_is_shown_if_no_run_is_scored_on_test(tmp_path):
    runs = make_runs(tmp_path, {"fmit": set()})
    folder = runs.runs["made", "fmit", 0]["made"]
    (folder / "metrics-test.json").rename(folder / "metrics-dev.json")
    assert runs.split("made") == "dev"
    assert len(runs.metrics("made", "fmit")) == 1


def test_scores_on_another_dataset(tmp_path):
    runs = make_runs(tmp_path, {"fmit": set()})
    both = replace(runs, posts={**runs.posts, "other": runs.posts["made"]})
    assert both.metrics("made", "fmit", "other") == []
    assert both.remark("made", "fmit", "other") == "not scored: 1 not scored on other, test split"
    folder = tmp_path / "on" / "other" / "scores"
    folder.mkdir(parents=True)
    there = runs.metrics("made", "fmit")[0] | {"n_posts": 1}
    (folder / "metrics-test.json").write_text(json.dumps(there))
    both = replace(both, runs={("made", "fmit", 0): {**runs.runs["made", "fmit", 0], "other": folder}})
    assert both.metrics("made", "fmit", "other") == [there]
    assert both.remark("made", "fmit", "other") == ""


def test_scores_are_those_of_the_present_weights_and_posts(tmp_path):
    run = make_runs(tmp_path, {"fmit": set()}).runs["made", "fmit", 0]["made"].parent
    (run / "model" / "weights.safetensors").write_bytes(b"weights")
    stamp = {"weights": digest_bytes(b"weights"), "posts": "a"}
    metrics = json.loads((run / "scores" / "metrics-test.json").read_text())

    def write(folder, **values):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics-test.json").write_text(json.dumps(metrics | stamp | values))

    write(run / "scores")
    write(run / "on" / "other" / "scores", posts="b")
    assert digest_file(run / "model" / "weights.safetensors") == stamp["weights"]
    assert find_scores(run, {"one": "a", "two": "b", "three": "c"}) == {
        "one": run / "scores",
        "two": run / "on" / "other" / "scores",
    }
    write(run / "scores", weights="older")
    assert find_scores(run, {"one": "a"}) == {}
    (run / "scores" / "metrics-test.json").write_text("[]")
    with pytest.raises(RunError, match=r"metrics-test.json: "):
        find_scores(run, {"one": "a"})


def test_known_entities_are_those_of_the_training_posts(tmp_path):
    runs = make_runs(tmp_path, {"fmit": set()})
    train = [post for post in runs.table("made").posts if post.split == "train"]
    known = known_entities(runs.table("made").posts)
    assert known
    assert all(name == name.casefold() for name in known)
    texts = {" ".join(post.words).casefold() for post in train}
    assert all(any(name in text for text in texts) for name in known)


def test_why_a_row_has_no_scores(tmp_path):
    missing = {("made", "umt"): "no grid"}
    runs = make_runs(tmp_path, {"fmit": set()}, seeds=(0, 1), approaches=("fmit", "umt", "umgf"), missing=missing)
    assert runs.remark("made", "fmit") == ""
    assert runs.remark("made", "umt") == "not run: no grid"
    assert runs.remark("made", "umgf") == "not run"
    assert runs.remark("twitter2015", "fmit") == "not run: no posts of twitter2015"
    part = {("made", "fmit", 1): runs.runs["made", "fmit", 1], ("made", "umgf", 0): {}}
    part = RunSet(runs.posts, part, runs.approaches)
    assert part.remark("made", "fmit") == "1 of 2 seeds"
    assert part.remark("made", "umgf") == "not scored: 1 not scored on made, test split"


def test_missing_predictions_are_an_error(tmp_path):
    runs = make_runs(tmp_path, {"fmit": set()})
    (runs.runs["made", "fmit", 0]["made"] / "predictions-test.jsonl").unlink()
    with pytest.raises(RunError, match=r"predictions are missing; score the run again \(fmit evaluate\)"):
        runs.predictions("made", "fmit", 0)

from dataclasses import replace

import pytest

from report.cases import choose, figure3
from report.results import published
from schema.prediction import Prediction
from schema.records import joined
from tests.report.example_runs import make_runs


def ids(cases):
    return {next(iter(lines.values())).id for lines in cases}


def test_both_sides_are_shown_and_posts_on_which_all_agree_are_not(tmp_path):
    runs = make_runs(tmp_path, {"fmit": {0, 1, 5}, "bert-crf": {2, 3, 5}, "umt": {4, 5}}, n_test=7)
    two = choose(runs, "made", 2)
    assert len(ids(two) & {"test-00002", "test-00003"}) == 1
    assert len(ids(two) & {"test-00000", "test-00001"}) == 1
    assert ids(choose(runs, "made", 9)) == {f"test-0000{at}" for at in range(5)}
    assert ids(choose(runs, "made", 4)) == {f"test-0000{at}" for at in range(4)}
    assert choose(runs, "made", 0) == []


def test_one_half_fills_up_the_other(tmp_path):
    runs = make_runs(tmp_path, {"fmit": {0, 1, 2}, "bert-crf": set()})
    assert ids(choose(runs, "made", 3)) == {"test-00000", "test-00001", "test-00002"}


def test_a_single_approach_has_no_cases(tmp_path):
    assert choose(make_runs(tmp_path, {"fmit": {0}}), "made", 4) == []


def test_predictions_have_confidences_and_wrong_ones_a_cross(tmp_path):
    runs = make_runs(tmp_path, {"fmit": set(), "bert-crf": {2}})
    (case,) = choose(runs, "made", 3)
    (table,) = figure3([case], published(), "made")
    cells = {row.label: row.cells[0] for row in table.rows}
    predicted = runs.predictions("made", "fmit", 0)[2].entities
    assert cells["BERT-CRF"] == "nothing"
    gold = cells["gold"].split(", ")
    assert cells["FMIT"] == ", ".join(
        f"{text} ({one.confidence:.2f})" for text, one in zip(gold, predicted, strict=True)
    )


def test_a_wrong_prediction_has_a_cross_and_no_confidence_if_there_is_none(tmp_path):
    runs = make_runs(tmp_path, {"fmit": set(), "bert-crf": {2}})
    lines = runs.predictions("made", "fmit", 0)
    post, gold = lines[2].post, lines[2].gold
    lines[2] = Prediction.make(post, [(replace(gold[0], type="NONE"), None)])
    runs.predictions("made", "bert-crf", 0)[2] = Prediction.make(post, [(one, 0.5) for one in gold])
    (table,) = figure3(choose(runs, "made", 1), published(), "made")
    (cell,) = next(row.cells for row in table.rows if row.label == "FMIT")
    assert cell.endswith(" NONE ✗")


@pytest.mark.parametrize("redact", [True, False])
def test_redaction_hides_names(tmp_path, redact):
    runs = make_runs(tmp_path, {"fmit": set(), "bert-crf": {2}})
    lines = runs.predictions("made", "fmit", 0)
    words = ("@ann", *lines[2].post.words[1:])
    text, offsets = joined(words)
    lines[2] = replace(lines[2], post=replace(lines[2].post, words=words, text=text, offsets=offsets))
    (table,) = figure3(choose(runs, "made", 1), published(), "made", redact=redact)
    assert ("@ann" in table.title) != redact

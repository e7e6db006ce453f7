"""F1 by class against counting by hand."""

import pytest

from report.breakdown import breakdown, calibration, classes, f1_by_class
from report.results import published
from tests.report.example_runs import make_runs
from tests.report.examples import Maker, prediction


def line(words, gold, predicted, state="ok"):
    made = Maker(0).post(0)
    entity = ("start", "end", "type")
    return prediction(
        {
            **made,
            "words": words,
            "images": [{**made["images"][0], "state": state}],
            "objects": [],
            "gold": [dict(zip(entity, one, strict=True)) for one in gold],
            "entities": [dict(zip(entity, one, strict=True)) | {"confidence": 0.5} for one in predicted],
        }
    )


def test_classes_of_an_entity():
    known = frozenset({"new york"})
    short = line(["New", "York", "x"], [(0, 2, "LOC"), (2, 3, "PER")], [])
    assert list(classes(short.post, short.gold[0], known)) == ["seen", "1-10 words", "with an image"]
    long = line(["x"] * 11, [(0, 1, "LOC")], [], "missing")
    assert list(classes(long.post, long.gold[0], known)) == ["unseen", "11-20 words", "without an image"]
    longer = line(["x"] * 21, [(0, 1, "LOC")], [], "broken")
    assert list(classes(longer.post, longer.gold[0], known)) == ["unseen", "over 20 words", "without an image"]


def test_f1_of_each_class_by_hand():
    lines = [
        line(["a", "b", "c"], [(0, 1, "PER"), (1, 2, "LOC")], [(0, 1, "PER"), (1, 2, "ORG")]),
        line(["a"] * 12, [(3, 4, "PER")], []),
    ]
    found, gold = f1_by_class(lines, frozenset({"a"}))
    assert found["seen"] == pytest.approx(2 * 1 / (2 + 1))  # right: the first a; gold: two; predicted: one
    assert found["unseen"] == 0  # b has the wrong type
    assert found["1-10 words"] == pytest.approx(2 * 1 / (2 + 2))
    assert found["11-20 words"] == 0
    assert (gold["seen"], gold["unseen"], gold["with an image"]) == (2, 1, 3)
    assert "without an image" not in found


def test_the_table_has_counts_first_and_no_figure_for_an_empty_class(tmp_path):
    runs = make_runs(tmp_path, {"fmit": set(), "umt": {0, 1, 2, 3, 4, 5}}, seeds=(0, 1))
    table = breakdown(runs, published(), "made")
    first, fmit, umt = table.rows
    n_gold = sum(len(one.gold) for one in runs.predictions("made", "fmit", 0))
    assert first.cells[0].value + first.cells[1].value == n_gold
    assert sum(one.value for one in first.cells[2:5]) == n_gold
    for count, mine, none in zip(first.cells, fmit.cells, umt.cells, strict=True):
        assert (mine is None) == (count.value == 0)
        if count.value:
            assert (mine.value, none.value) == (100, 0)


def test_calibration_is_over_all_seeds_and_empty_without_predictions(tmp_path):
    runs = make_runs(tmp_path, {"fmit": set(), "umt": {0, 1, 2, 3, 4, 5}}, seeds=(0, 1))
    table, plots = calibration(runs, published(), "made")
    told = [one.confidence for line in runs.predictions("made", "fmit", 0) for one in line.entities]
    ece, confidence, right, n = table.rows[0].cells
    assert n.value == 2 * len(told)
    assert confidence.value == pytest.approx(sum(told) / len(told))
    assert right.value == 100
    assert ece.value == pytest.approx(1 - sum(told) / len(told))  # all are right
    assert table.rows[1].cells[:3] == (None, None, None)
    assert [name for name, _ in plots] == ["FMIT"]

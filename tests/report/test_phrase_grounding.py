"""Metrics of phrase grounding, and the two formats of gold boxes."""

import json

import pytest

from report.grounding import GoldPhrase, average_precision, ceiling, centre_box, evaluate, iou, read_gold
from schema.errors import DataError

SIZES = {"a.jpg": (100, 50)}


def test_accuracy_counts_visible_phrases_and_any_of_their_boxes():
    gold = [
        GoldPhrase("a.jpg", "the dog", ((0, 0, 10, 10), (50, 0, 60, 10))),
        GoldPhrase("a.jpg", "the cat", ((0, 0, 10, 10),)),
        GoldPhrase("a.jpg", "London", ()),
    ]
    found = evaluate(gold, [((50, 0, 60, 9), 0.9), ((5, 0, 15, 10), 0.2), ((0, 0, 1, 1), 0.5)])
    assert (found.accuracy, found.n_correct) == (0.5, 1)
    assert found.average_precision == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert evaluate(gold[:2], [((0, 0, 1, 1), 0.0)] * 2).average_precision is None
    assert ceiling(gold, {"a.jpg": [(0, 0, 10, 10)]}) == 1.0
    assert ceiling(gold, {"a.jpg": [(50, 0, 60, 10)]}) == 0.5


def test_average_precision_of_equal_scores_is_the_base_rate():
    assert average_precision([True, False, False, True], [0.0] * 4) == 0.5
    assert average_precision([True, True, False], [3, 2, 1]) == 1.0
    assert average_precision([False], [1.0]) == 0.0


def test_boxes():
    assert centre_box(100, 50) == (25, 12.5, 75, 37.5)
    assert iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0.0


def test_jsonl(tmp_path):
    row = {"image": "a.jpg", "width": 200, "height": 100, "phrases": [{"text": "dog", "box": [0, 0, 20, 20]}]}
    (tmp_path / "g.jsonl").write_text(json.dumps(row) + "\n\n")
    assert read_gold(tmp_path / "g.jsonl", SIZES) == [GoldPhrase("a.jpg", "dog", ((0, 0, 10, 10),))]
    with pytest.raises(DataError, match=r"g\.jsonl:1: no image a\.jpg; give the image folder"):
        read_gold(tmp_path / "g.jsonl", {})


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"image": "a.jpg"}', '{"image": "a.jpg", "phrases": [{"text": "x", "box": [9, 9, 1, 1]}]}']
)
def test_lines_that_are_not_gold_boxes_are_refused(tmp_path, line):
    (tmp_path / "g.jsonl").write_text(line)
    with pytest.raises(DataError, match=r"g\.jsonl:1: not gold boxes"):
        read_gold(tmp_path / "g.jsonl", SIZES)


def test_no_visible_phrase(tmp_path):
    (tmp_path / "g.jsonl").write_text('{"image": "a.jpg", "phrases": [{"text": "x", "box": null}]}')
    with pytest.raises(DataError, match="no phrase has a box"):
        read_gold(tmp_path / "g.jsonl", SIZES)


def test_xml_keeps_names_as_they_are_written(tmp_path):
    box = "<bndbox><xmin>0</xmin><ymin>0</ymin><xmax>20</xmax><ymax>10</ymax></bndbox>"
    size = "<size><width>200</width><height>50</height></size>"
    (tmp_path / "a.xml").write_text(f"<annotation>{size}<object><name>Bronx  Zoo</name>{box}</object></annotation>")
    assert read_gold(tmp_path, SIZES) == [GoldPhrase("a.jpg", "Bronx Zoo", ((0, 0, 10, 10),))]

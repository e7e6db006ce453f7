"""GMNER's three scores by hand, and IoU against the one of `vision`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.grounding import best_region, iou, is_correct, score
from schema.records import Entity, Span
from tests.report.examples import prediction
from vision import crops

CORNERS = st.tuples(*[st.integers(0, 9)] * 4).map(
    lambda v: (min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3]))
)


@given(CORNERS, CORNERS)
def test_iou_is_that_of_vision(a, b):
    assert iou(a, b) == pytest.approx(crops.iou(a, b))


def line(gold, predicted, phrases, id_="1"):
    """Entities as (start, end, type), phrases as (start, end, box, score)."""
    names = ("start", "end", "type")
    image = {"name": "a.png", "digest": "", "width": 100, "height": 100, "state": "ok"}
    objects = [
        {
            "source": "image",
            "text": "",
            "start": None,
            "end": None,
            "image_index": 0,
            "score": 1.0,
            "x0": 0,
            "y0": 0,
            "x1": 100,
            "y1": 100,
        }
    ]
    for start, end, box, sure in phrases:
        corners = dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))
        objects.append(
            {"source": "phrase", "text": "", "start": start, "end": end, "image_index": 0, "score": sure, **corners}
        )
    return prediction(
        {
            "id": id_,
            "split": "test",
            "words": list("abcdef"),
            "images": [image],
            "gold": [dict(zip(names, one, strict=True)) for one in gold],
            "entities": [dict(zip(names, one, strict=True)) | {"confidence": 1.0} for one in predicted],
            "objects": objects,
        }
    )


def test_the_phrase_that_fits_best_gives_the_box():
    found = line(
        [],
        [],
        [(0, 4, (0, 0, 1, 1), 0.9), (1, 3, (2, 2, 3, 3), 0.1), (1, 3, (4, 4, 5, 5), 0.2), (3, 4, (6, 6, 7, 7), 1.0)],
    )
    assert best_region(found, Span(1, 3)).box.xyxy == (4, 4, 5, 5)
    assert best_region(found, Span(2, 3)).box.xyxy == (4, 4, 5, 5)
    assert best_region(found, Span(1, 3), 0.5).box.xyxy == (0, 0, 1, 1)
    assert best_region(found, Span(1, 2), 0.95) is None
    assert best_region(found, Span(5, 6)) is None


def test_correctness_under_each_score():
    one = line(
        [(0, 1, "PER"), (2, 3, "LOC"), (4, 5, "ORG")], [], [(0, 1, (0, 0, 10, 10), 1), (2, 3, (0, 0, 10, 10), 1)]
    )
    person, place, hidden = one.gold
    gold = {("1", person): ((50, 50, 60, 60), (0, 0, 10, 20)), ("1", place): ((5, 0, 15, 10),), ("1", hidden): ()}
    every = {"MNER": True, "EEG": True, "GMNER": True}
    assert is_correct(one, person, gold) == every  # IoU of exactly one half with its second box
    assert is_correct(one, Entity(person.span, "LOC"), gold) == {"MNER": False, "EEG": True, "GMNER": False}
    assert is_correct(one, place, gold) == {"MNER": True, "EEG": False, "GMNER": False}  # IoU of one third
    assert is_correct(one, hidden, gold) == every  # not shown, and no phrase there
    assert is_correct(one, Entity(Span(0, 2), "PER"), gold) == dict.fromkeys(every, False)


def test_an_entity_that_is_not_shown_is_correct_only_without_a_box():
    one = line([(0, 1, "PER")], [], [(0, 1, (0, 0, 10, 10), 0.3)])
    gold = {("1", one.gold[0]): ()}
    assert not is_correct(one, one.gold[0], gold)["EEG"]
    assert is_correct(one, one.gold[0], gold, min_score=0.5)["EEG"]


def test_scores_over_posts_by_hand():
    first = line(
        [(0, 1, "PER"), (2, 3, "LOC")],
        [(0, 1, "PER"), (2, 3, "ORG")],
        [(0, 1, (0, 0, 10, 10), 1), (2, 3, (20, 20, 30, 30), 1)],
    )
    second = line([(0, 1, "PER")], [(1, 2, "PER")], [], "2")
    gold = {
        ("1", first.gold[0]): ((0, 0, 10, 10),),
        ("1", first.gold[1]): ((20, 20, 30, 30),),
        ("2", second.gold[0]): (),
    }
    found = score([first, second], gold)
    assert {name: (one.n_gold, one.n_predicted, one.n_correct) for name, one in found.items()} == {
        "MNER": (3, 3, 1),
        "EEG": (3, 3, 2),
        "GMNER": (3, 3, 1),
    }
    assert found["EEG"].f1 == found["EEG"].precision == found["EEG"].recall == pytest.approx(2 / 3)
    assert score([], {})["GMNER"].f1 == 0
    assert found["EEG"].to_json()["n_correct"] == 2

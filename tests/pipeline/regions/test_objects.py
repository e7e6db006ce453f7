"""The contract's order of objects, by hand."""

import pytest

from pipeline.regions.config import RegionsConfig
from pipeline.regions.stage import capped, post_regions
from schema.errors import DataError
from schema.labels import LabelSet
from schema.records import Box, Image, Region, Span
from tests.pipeline.drawn import LABELS, chosen, phrases, post

FIRST, SECOND = Image("1.png", "d1", 30, 20), Image("2.png", "d2", 40, 50)
LOST = Image("3.png", state="missing", reason="no such file")


def general(*indices):
    return [
        chosen(word, (at, 0, at + 1, 5), index=index)
        for index in indices
        for at, word in enumerate(("place", "person"))
    ]


def test_order_with_two_images_and_a_lost_one_between():
    boxes = [
        chosen("Paris", (1, 1, 2, 2), (4, 5), index=2),
        chosen("a tiny dog", (3, 3, 9, 9), (0, 3), index=0),
        *general(2, 0),
        chosen("tiny dog", (2, 3, 9, 9), (1, 3), index=0),
    ]
    found = post_regions(post("p", FIRST, LOST, SECOND), boxes, LABELS, RegionsConfig())
    assert found == (
        Region("image", "", None, Box(0, 0, 30, 20, 0), 1.0),
        Region("general", "person", None, Box(1, 0, 2, 5, 0), 0.5),
        Region("general", "place", None, Box(0, 0, 1, 5, 0), 0.5),
        Region("image", "", None, Box(0, 0, 40, 50, 2), 1.0),
        Region("general", "person", None, Box(1, 0, 2, 5, 2), 0.5),
        Region("general", "place", None, Box(0, 0, 1, 5, 2), 0.5),
        Region("phrase", "a tiny dog", Span(0, 3), Box(3, 3, 9, 9, 0), 0.5),
        Region("phrase", "tiny dog", Span(1, 3), Box(2, 3, 9, 9, 0), 0.5),
        Region("phrase", "Paris", Span(4, 5), Box(1, 1, 2, 2, 2), 0.5),
    )


@pytest.mark.parametrize("images", [(), (LOST,), (Image("4.png", state="refused"), LOST)])
def test_no_image(images):
    parsed = phrases("p", (0, 3), (4, 5)).phrases
    empty = Region("image", "", None, None, 0.0)
    assert post_regions(post("p", *images), [], LABELS, RegionsConfig(), parsed) == (empty,)
    assert post_regions(post("p", *images), [], LABELS, RegionsConfig(no_image="paper"), parsed) == (
        empty,
        Region("general", "person", None, None, 0.0),
        Region("general", "place", None, None, 0.0),
        Region("phrase", "a tiny dog", Span(0, 3), None, 0.0),
        Region("phrase", "Paris", Span(4, 5), None, 0.0),
    )


def test_boxes_of_another_label_set():
    with pytest.raises(
        DataError, match=r"post p, image 0: no box for the general word 'person'; run the ground stage again"
    ):
        post_regions(post("p", FIRST), general(0)[:1], LABELS, RegionsConfig())


def test_the_longest_phrases_are_cut_first():
    spans = {"w": (4, 5), "x": (0, 3), "y": (1, 3), "z": (2, 3)}
    boxes = [*general(0), *(chosen(text, (1, 1, 2, 2), span) for text, span in spans.items())]
    regions = post_regions(post("p", FIRST), boxes, LABELS, RegionsConfig())
    for cap, texts in ((3, "yzw"), (1, "z"), (0, ""), (None, "xyzw"), (9, "xyzw")):
        assert [one.text for one in capped(regions, cap)] == ["", "person", "place", *texts]


def test_types_with_the_same_general_word_share_one_object():
    labels = LabelSet({"PER": "person", "LOC": "place", "GPE": "place"}, {})
    regions = post_regions(post("p", FIRST), general(0), labels, RegionsConfig())
    assert [one.text for one in regions] == ["", "person", "place"]

from xml.etree import ElementTree as Tree

from hypothesis import given
from hypothesis import strategies as st

from report.show import NAMES, lattice_figure, lattice_objects
from schema.records import Box, Region, Span

WORDS = ("first", "ride", "with", "Dusty")
REGIONS = (
    Region("image", "", None, Box(0, 0, 9, 9), 1.0),
    Region("general", "person", None, Box(0, 0, 5, 5), 0.4),
    Region("phrase", "first ride", Span(0, 2), Box(1, 1, 4, 4), 0.9),
    Region("phrase", "Dusty", Span(3, 4), None, 0.0),
)


def test_positions_are_those_of_the_paper():
    assert [(one.head, one.tail) for one in lattice_objects(REGIONS, 4)] == [(1, 4), (1, 4), (1, 2), (4, 4)]


def test_bars_cover_their_words():
    drawing = Tree.fromstring(str(lattice_figure(WORDS, lattice_objects(REGIONS, 4))))
    edges = sorted(float(one.get("x1")) for one in drawing.iter("line"))  # left edges of [CLS], words, [SEP]
    assert len(edges) == 6
    assert edges[0] == NAMES
    bars = list(drawing.iter("rect"))
    spans = [(float(one.get("x")) - 2, float(one.get("x")) + float(one.get("width")) + 2) for one in bars]
    assert [(round(a, 1), round(b, 1)) for a, b in spans] == [
        (round(edges[head], 1), round(edges[tail + 1], 1)) for head, tail in ((1, 4), (1, 4), (1, 2), (4, 4))
    ]
    assert [one.find("title").text for one in bars][2] == "first ride: head 1, tail 2"


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_any_words_make_a_well_formed_figure(words):
    drawing = Tree.fromstring(str(lattice_figure(words, lattice_objects((REGIONS[0],), len(words)))))
    assert sum(one.get("class") == "cell middle" for one in drawing.iter("text")) == len(words) + 2

import pytest

from pipeline.phrases.parser import category
from pipeline.phrases.stage import is_bare, noun_phrases, shortest

NODES = [
    (0, 5, "S"),
    (0, 2, "NP-SBJ"),
    (0, 2, "NP"),
    (2, 5, "VP"),
    (3, 5, "NP"),
    (3, 4, "NP"),
    (4, 5, "PP"),
    (4, 5, "NP"),
]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("all", [(0, 2, "NP"), (3, 4, "NP"), (3, 5, "NP"), (4, 5, "NP")]),
        ("maximal", [(0, 2, "NP"), (3, 5, "NP")]),
        ("base", [(0, 2, "NP"), (3, 4, "NP"), (4, 5, "NP")]),
    ],
)
def test_which_nodes_are_kept(kind, expected):
    assert noun_phrases(NODES, ("NP",), kind) == expected


def test_of_several_labels_the_first_named_wins():
    assert noun_phrases(NODES, ("PP", "NP"), "base")[-1] == (4, 5, "PP")
    assert noun_phrases(NODES, ("NP", "PP"), "base")[-1] == (4, 5, "NP")


def test_function_tags_are_cut():
    assert [category(label) for label in ("NP-SBJ-1", "NP", "-NONE-")] == ["NP", "NP", "-NONE-"]


@pytest.mark.parametrize("word", ["She", "@ann", "https://t.co/x", "...", "❤", "this"])
def test_words_that_name_nothing(word):
    assert is_bare(word)


@pytest.mark.parametrize("word", ["Rome", "#Rome", "3"])
def test_words_that_name_something(word):
    assert not is_bare(word)


def test_the_longest_are_cut_first_and_order_stays():
    nodes = [(0, 4, "NP"), (0, 1, "NP"), (2, 4, "NP"), (3, 4, "NP")]
    assert shortest(nodes, 2) == [(0, 1, "NP"), (3, 4, "NP")]
    assert shortest(nodes, None) == nodes
    assert shortest(nodes, 0) == []

import pytest

from pipeline.phrases.parser import Parsed
from schema.errors import DataError
from synthetic.parser_training import Tree, score

TREES = [
    Tree(("the", "dog", "saw", "a", "cat"), (), ((0, 2, "NP"), (3, 5, "NP"), (2, 5, "VP"))),
    Tree(("Rome",), (), ((0, 1, "NP"), (0, 1, "NP"))),
]


class Fixed:
    identity = {"parser": "fixed"}  # noqa: RUF012

    def parse(self, sentences):
        return [Parsed(((0, 2, "NP"), (2, 5, "NP"), (3, 5, "VP"))), Parsed(())]


def test_spans_are_counted_over_all_sentences():
    found = score(TREES, Fixed())
    assert (found.n_correct, found.n_predicted, found.n_gold, found.n_sentences) == (1, 2, 3, 2)
    assert (found.precision, found.recall, found.f1) == (0.5, 1 / 3, 0.4)


def test_nothing_to_score():
    with pytest.raises(DataError, match="no trees to score"):
        score([], Fixed())

import pytest

from schema.errors import DataError
from schema.records import Box, Phrase, Post, PostPhrases, Span, joined


def make_post(**changes):
    text, offsets = joined(("Hello", "\u00a0", "Rome"))
    values = {"id": "p1", "split": "train", "words": ("Hello", "\u00a0", "Rome"), "text": text, "offsets": offsets}
    return Post(**{**values, **changes})


def test_words_joined_by_single_spaces():
    assert joined(("ab", "c")) == ("ab c", ((0, 2), (3, 4)))


def test_characters_of_a_span():
    post = make_post()
    start, end = post.characters(Span(1, 3))
    assert post.text[start:end] == "\u00a0 Rome"


@pytest.mark.parametrize(("start", "end"), [(1, 1), (2, 1), (-1, 2)])
def test_bad_spans(start, end):
    with pytest.raises(DataError, match="0 <= start < end"):
        Span(start, end)


@pytest.mark.parametrize("box", [(0, 0, 0, 4), (5, 0, 4, 4), (-1, 0, 4, 4), (0, 0, 4, 4, -1)])
def test_bad_boxes(box):
    with pytest.raises(DataError, match="0 <= x0 < x1"):
        Box(*box)


@pytest.mark.parametrize("post_id", ["../../x", "a/b", "a\\b", "", "x" * 201, "a\nb", ".."])
def test_ids_never_become_paths(post_id):
    with pytest.raises(DataError, match="post id"):
        make_post(id=post_id)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": (), "offsets": ()}, "at least one word"),
        ({"tags": ("O",)}, "3 words but 1 tags"),
        ({"offsets": ((0, 5),)}, "3 words but 1 offsets"),
        ({"offsets": ((0, 5), (6, 7), (7, 11))}, r"offsets \[7, 11\) do not hold 'Rome'"),
        ({"split": "valid"}, "unknown split"),
    ],
)
def test_bad_posts(changes, message):
    with pytest.raises(DataError, match=message):
        make_post(**changes)


def test_phrases_are_ordered_and_unique():
    first, second = Phrase(Span(0, 1), "a"), Phrase(Span(0, 2), "a b")
    assert PostPhrases("p", (first, second)).phrases == (first, second)
    with pytest.raises(DataError, match="unique and ordered"):
        PostPhrases("p", (second, first))
    with pytest.raises(DataError, match="unique and ordered"):
        PostPhrases("p", (first, first))

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.phrases.view import sentences


def seen(*words: str) -> list[str]:
    return [" ".join(sentence.words) for sentence in sentences(words)]


@pytest.mark.parametrize(
    ("post", "expected"),
    [
        ("RT @ann : the left Jordan https://t.co/x", ["the left Jordan"]),
        ("Look at #Rome !", ["Look at Rome !"]),
        ("Love # Rome", ["Love", "Rome"]),
        ("Dr. Who met Ann . They left .", ["Dr. Who met Ann .", "They left ."]),
        ("RT @ann : https://t.co/x", []),
        ("\u2764\ufe0f \U0001f600", []),
        ("with @ann today", ["with ann today"]),
    ],
)
def test_what_a_parser_sees(post, expected):
    assert seen(*post.split(" ")) == expected


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12))
def test_each_word_seen_is_a_word_of_the_post_in_order(words):
    found = [index for sentence in sentences(words) for index in sentence.index]
    assert found == sorted(set(found))
    assert all(0 <= index < len(words) for index in found)
    assert all(word and not word.isspace() for sentence in sentences(words) for word in sentence.words)


def test_long_words_and_controls_do_no_harm():
    (found,) = sentences(["x" * 5000, "\u00a0", "\x07", "Rome"])
    assert found.index == (0, 3)
    assert len(found.words[0]) == 60

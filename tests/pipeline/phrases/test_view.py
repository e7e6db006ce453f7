"""The parse view: what is dropped, what is rewritten, where sentences end, and the way back to the post's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.phrases import normalize


def seen(post: str) -> list[str]:
    return [" ".join(sentence.words) for sentence in normalize.sentences(post.split(" "))]


@pytest.mark.parametrize(
    ("post", "sentences"),
    [
        ("RT @RyleyWan : Lion King started this ! ! http://t.co/Vsh", ["Lion King started this ! !"]),
        ("@a @b the left Jordan", ["the left Jordan"]),
        ("dinner with @jane", ["dinner with jane"]),  # within the text a name is a word of it
        ("Jack is in Mexico @one @two", ["Jack is in Mexico"]),  # at its end it addresses somebody
        ("@ one : hello there @ two", ["hello there"]),  # the mark as a word of its own
        ("See it . It was great !", ["See it .", "It was great !"]),
        ('He said " go . " Then he left', ['He said " go . "', "Then he left"]),
        ("Mrs . Asquith met J . Smith at 5 p . m . today", ["Mrs . Asquith met J . Smith at 5 p . m . today"]),
        ("great night #LoveIt", ["great night", "LoveIt"]),
        ("thanks for the #Jump", ["thanks for the Jump"]),
        ("so happy #one #two", ["so happy", "one", "two"]),
        ("so happy # one # two", ["so happy", "one", "two"]),
        ("the # Mets game", ["the Mets game"]),
        ("research &amp ; audit", ["research & audit"]),
        ("this 🎉 is 👍🏽 fun ☀️", ["this is fun"]),
        ("http://t.co/x 🎉 @name", []),
        ("! ! !", []),
        ("Love # Rome", ["Love", "Rome"]),
        ("Dr. Who met Ann . They left .", ["Dr. Who met Ann .", "They left ."]),
    ],
)
def test_posts(post: str, sentences: list[str]) -> None:
    assert seen(post) == sentences


def test_every_word_knows_its_place_in_the_post() -> None:
    post = ["RT", "@a", ":", "#Lions", "beat", "🎉", "us", ".", "Wow", "@bob"]
    found = normalize.sentences(post)
    assert [sentence.index for sentence in found] == [(3, 4, 6, 7), (8,)]
    assert [sentence.words for sentence in found] == [("Lions", "beat", "us", "."), ("Wow",)]


def test_names_are_marked() -> None:
    [sentence] = normalize.sentences(["dinner", "with", "@jane", "tonight"])
    assert sentence.is_name == (False, False, True, False)


@pytest.mark.parametrize("word", ["\u00a0", "\ufe0f", "\u00ad", "\u200d", "\x00", "\x1b", "\ud800", "\u202e"])
def test_what_cannot_be_seen_is_no_word(word: str) -> None:
    [sentence] = normalize.sentences(["the", word, f"do{word}g"])
    assert sentence.words == ("the", "dog")
    assert sentence.index == (0, 2)


def test_a_word_is_cut_not_dropped() -> None:
    [sentence] = normalize.sentences(["the", "x" * 5000])
    assert sentence.words == ("the", "x" * normalize.MAX_CHARACTERS)


@given(st.lists(st.text(min_size=1, max_size=8) | st.sampled_from(["#a", "@b", "RT", ".", "#", "@"]), min_size=1))
def test_any_post_gives_clean_words_in_order(post: list[str]) -> None:
    found = normalize.sentences(post)
    index = [at for sentence in found for at in sentence.index]
    assert index == sorted(set(index))
    assert all(0 <= at < len(post) for at in index)
    for sentence in found:
        assert len(sentence.words) == len(sentence.index) == len(sentence.is_name) > 0
        assert all(word and not any(character.isspace() for character in word) for word in sentence.words)

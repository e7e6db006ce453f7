import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.pages import BLANK, WORD_CHARS, redacted, safe_text, safe_word

DANGEROUS = "\x00\x07\x08\x1b\x7f\x85\x9b\u200b\u200e\u200f\u061c\u202a\u202e\u2066\u2069\u2028\u2029\ufeff"


@given(st.text(alphabet=st.characters(codec=None), max_size=60))
def test_nothing_that_controls_a_terminal_or_a_direction_is_left(text):
    shown = safe_text(text)
    assert not set(DANGEROUS) & set(shown)
    assert all(unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp") for char in shown)
    assert all(unicodedata.bidirectional(char) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
               for char in shown)  # fmt: skip
    shown.encode("utf-8")


@pytest.mark.parametrize("char", [*DANGEROUS, *map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])])
def test_each_dangerous_character_is_removed(char):
    assert safe_text(f"a{char}b") in ("ab", "a b")


@given(st.text(alphabet=st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=40))
def test_ordinary_text_of_any_language_is_unchanged(text):
    assert safe_text(text) == text


def test_known_cases():
    assert safe_text("a\x1b[31mred\x1b[0m\u202egnp") == "a[31mred[0mgnp"
    assert safe_text("one\ttwo\r\nthree\u2028four") == "one two  three four"
    assert safe_text("\ud800") == "\ufffd"
    assert safe_text("👨‍👩‍👧") == "👨‍👩‍👧"  # the joiner inside belongs to the image
    assert safe_text("x" * 500, 10) == "xxxxxxxxxx… (500 characters)"
    assert safe_text("x" * 500, None) == "x" * 500


def test_words_are_short_and_never_invisible():
    assert safe_word("w" * 5000) == "w" * WORD_CHARS + "… (5000 characters)"
    for word in ("\u00a0", "\ufe0f", "\u00ad", "\u200d", "\x00"):
        assert safe_word(word) == BLANK
    assert safe_word("#Word") == "#Word"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("RT @JayKenMinaj _ : Me outside", "RT @… … : Me outside"),
        ("Swan upping http://t.co/pQdOHx3s", "Swan upping [link]"),
        ("@ hannuhnell says hi", "@… … says hi"),
        ("@ _ rosa _ : hi", "@… … … … : hi"),
        ("@Jay _ Ken is", "@… … … is"),
        ("see http : //t.co/x now", "see [link] : [link] now"),
        ("w/@someone (@other) at me@mail.org", "w/@… (@…) at @…"),
        ("＠wide pic.twitter.com/abc www.x.org", "@… [link] [link]"),
        ("@\u200bhidden , 5 / 6 and / or", "@… , 5 / 6 and / or"),
        ("on example.com. or bbc.co.uk today", "on [link]. or [link] today"),
        ("Paris and New York, U.S. and St.Louis 3.5", "Paris and New York, U.S. and St.Louis 3.5"),
        ("Paris and New York", "Paris and New York"),
    ],
)
def test_names_and_links_are_hidden_and_words_keep_their_number(words, shown):
    assert " ".join(redacted(words.split(" "))) == shown


@given(st.lists(st.text(min_size=1, max_size=12), max_size=12))
def test_hiding_never_changes_how_many_words_there_are(words):
    assert len(redacted(words)) == len(words)

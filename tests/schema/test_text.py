"""Text of strangers: what the shown form cannot do, and that JSON loses nothing."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.text import first_of, guarded, inert_json, plain_markdown, safe_text

ANY = st.text(st.characters(), max_size=60)  # surrogates, controls and marks included
CONTROLS = ("Cc", "Cs")
TURNS = set(
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
)  # what turns the reading direction


@given(ANY)
def test_shown_text_controls_nothing(text):
    shown = safe_text(text, None)
    assert not [
        char for char in shown if unicodedata.category(char) in CONTROLS or char in TURNS | {"\u2028", "\u2029"}
    ]


def test_long_text_is_cut_with_a_mark():
    assert safe_text("x" * 5000) == "x" * 300 + "… (5000 characters)"
    assert safe_text("a\tb\nc") == "a b c"


@given(st.recursive(ANY | st.integers() | st.none(), lambda part: st.lists(part) | st.dictionaries(ANY, part)))
def test_inert_json_says_the_same(value):
    line = inert_json(value)
    assert json.loads(line) == json.loads(json.dumps(value))
    assert not [char for char in line if unicodedata.category(char) in CONTROLS or char in TURNS | {"\u2028", "\u2029"}]


def test_letters_stay_as_they_are():
    assert inert_json({"a": "Zürich 東京 👩\u200d🚀"}) == '{"a": "Zürich 東京 👩\u200d🚀"}'
    assert inert_json("\u202e\x9b\x1b[31m\ud800") == r'"\u202e\u009b\u001b[31m\ud800"'
    assert inert_json({"b": 1, "a": 2}, indent=1, sort_keys=True) == '{\n "a": 2,\n "b": 1\n}'


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@A", "\t=1", "|x", "%x", "＝1", "\u202e=1"])
def test_no_cell_is_a_formula(text):
    assert str(guarded(text)).startswith("'")


def test_markdown_shows_what_is_written():
    assert plain_markdown("[x](javascript:alert(1)) | <b>`a_b") == r"\[x\](javascript:alert(1)) \| \<b\>\`a_b"
    assert plain_markdown(0.5) == "0.5"


def test_of_many_names_the_first_are_listed():
    assert first_of(["a", "b"]) == "a, b"
    assert first_of(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert first_of("abc", 2, "; ") == "a; b and 1 more"

"""The embedded parser: good on plain sentences, independent of neighbours, whole on long ones."""

import json

import numpy as np
import pytest

from cache import weights
from pipeline.phrases import span_parser
from schema.errors import WeightsError

SENTENCES = [
    ["we", "saw", "the", "left", "Jordan", "near", "the", "tiny", "Phoenix", "today"],
    ["Hi"],
    ["The", "old", "man", "gave", "the", "girl", "a", "red", "ball", "."],
    ["a"] * 7,
    ["the", "\u00a0", "x" * 5000, "dog"],
]


@pytest.fixture(scope="module")
def parser():
    return span_parser.load(weights.find("parser"))


def noun_phrases(parser, text: str) -> set[str]:
    words = text.split()
    (parsed,) = parser.parse([words])
    return {" ".join(words[start:end]) for start, end, label in parsed.spans if label == "NP"}


def test_noun_phrases_of_plain_sentences(parser):
    assert {"the left Jordan", "the tiny Phoenix"} <= noun_phrases(
        parser, "we saw the left Jordan near the tiny Phoenix"
    )
    assert {"The old man", "the girl", "a red ball"} <= noun_phrases(parser, "The old man gave the girl a red ball .")


def test_reference_trees(parser):
    """Pinned for these weights and VERSION 1: where an answer or a score moves, the version must, or the weights."""
    assert parser.identity["version"] == "1"
    words = ["Rita", "gave", "the", "girl", "from", "Oslo", "a", "book"]
    (tree,) = parser.parse([words])
    assert tree.spans == (
        (0, 8, "S"), (0, 1, "NP"), (1, 8, "VP"), (2, 6, "PP"), (2, 4, "NP"), (4, 6, "PP"), (5, 6, "NP"),
    )  # fmt: skip
    pieces = parser._pieces(words, span_parser.MAX_WORD_PIECES)
    scores = parser._scores([words] * 4, [pieces] * 4, span_parser.bucket(sum(map(len, pieces)) + 2))[0]
    assert np.allclose(scores[0, 2, :4], (0, -13.349361, -12.163199, -11.465838), rtol=1e-3)


def test_answers_do_not_depend_on_neighbours_or_order(parser):
    alone = [parser.parse([words])[0] for words in SENTENCES]
    assert parser.parse(SENTENCES) == alone
    assert parser.parse(SENTENCES[::-1] * 3) == alone[::-1] * 3


def test_scores_have_the_same_bits_in_any_company(parser):
    words = SENTENCES[0]
    pieces = parser._pieces(words, span_parser.MAX_WORD_PIECES)
    size = span_parser.bucket(sum(map(len, pieces)) + 2)
    other = SENTENCES[2]
    others = parser._pieces(other, span_parser.MAX_WORD_PIECES)
    first = parser._scores([words] * 4, [pieces] * 4, size)[0]
    second = parser._scores([other, words, other, words], [others, pieces, others, pieces], size)[1]
    assert np.array_equal(first, second)


def test_long_sentences_are_split_and_whole(parser):
    words = ["the", "dog", "saw", "the", "cat", ","] * 60
    (parsed,) = parser.parse([words])
    assert parsed.fallback == "split"
    found = {start for start, end, label in parsed.spans if (label, end - start) == ("NP", 2)}
    assert {0, len(words) - 6} <= found


def test_weights_of_something_else_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    weights.save_safetensors(path, {"a": np.zeros(3, np.float32)}, {"size": json.dumps({})})
    with pytest.raises(WeightsError, match="not weights of the embedded parser"):
        span_parser.load(path)


def test_saved_weights_answer_alike(parser, tmp_path):
    tensors, meta = weights.load_safetensors(weights.find("parser"))
    weights.save_safetensors(tmp_path / "copy.safetensors", tensors, meta)
    again = span_parser.load(tmp_path / "copy.safetensors")
    assert again.parse(SENTENCES) == parser.parse(SENTENCES)

"""From posts to phrases: the post's own words, cached trees, filters afterwards."""

import pytest

from pipeline.engine import Memory
from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.parser import Parsed
from pipeline.phrases.stage import find_phrases
from schema.records import Post, Span, joined


class EveryPair:
    """Says that each word and each two neighbours are a noun phrase; counts what it is asked."""

    def __init__(self, version: str = "1") -> None:
        self.identity = {"parser": "pairs", "version": version}
        self.asked: list[tuple[str, ...]] = []

    def parse(self, sentences):
        self.asked += [tuple(words) for words in sentences]
        return [
            Parsed(tuple((at, at + n, "NP-X") for n in (1, 2) for at in range(len(words) - n + 1)), "split")
            for words in sentences
        ]


def make(text: str, name: str = "p") -> Post:
    words = tuple(text.split(" "))
    raw, offsets = joined(words)
    return Post(name, "train", words, raw, offsets)


def test_spans_are_the_posts_own_words_and_pronouns_are_dropped():
    (found,), tally = find_phrases([make("RT @ann : she saw Rome")], PhrasesConfig(), EveryPair())
    assert [(phrase.span, phrase.text) for phrase in found.phrases] == [
        (Span(3, 5), "she saw"),
        (Span(4, 5), "saw"),
        (Span(4, 6), "saw Rome"),
        (Span(5, 6), "Rome"),
    ]
    assert found.fallback == "split"
    assert (tally.n_rows, tally.n_computed) == (1, 1)


def test_a_post_with_nothing_to_parse_is_named_and_not_sent_to_the_parser():
    parser = EveryPair()
    (found,), tally = find_phrases([make("RT @ann : https://t.co/x")], PhrasesConfig(), parser)
    assert (found.phrases, found.fallback, tally.n_rows, parser.asked) == ((), "empty-view", 0, [])


def test_filters_parse_nothing_again():
    store, parser, posts = Memory(), EveryPair(), [make("big red dogs"), make("RT big red dogs", "q")]
    found, tally = find_phrases(posts, PhrasesConfig(), parser, store)
    assert len(parser.asked) == 1, "the same view is parsed once"
    assert [len(one.phrases) for one in found] == [5, 5]
    for config, sizes, cut in (
        (PhrasesConfig(max_phrases=3), [3, 3], [2, 2]),
        (PhrasesConfig(kind="maximal"), [2, 2], [0, 0]),
        (PhrasesConfig(labels=("VP",)), [0, 0], [0, 0]),
    ):
        found, tally = find_phrases(posts, config, parser, store)
        assert ([len(one.phrases) for one in found], [one.n_cut for one in found]) == (sizes, cut)
        assert tally.n_computed == 0


def test_another_parser_is_another_row():
    store = Memory()
    for version in ("1", "2"):
        _, tally = find_phrases([make("dogs")], PhrasesConfig(), EveryPair(version), store)
        assert tally.n_computed == 1


@pytest.mark.parametrize("word", ["\u00a0", "x" * 5000, "\x00", "\u202e"])
def test_odd_words_pass(word):
    (found,), _ = find_phrases([make(f"the {word} dog")], PhrasesConfig(), EveryPair())
    assert all(phrase.span.end <= 3 for phrase in found.phrases)

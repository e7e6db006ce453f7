"""Noun phrases of posts. The store keeps whole trees; which of their nodes count is decided afterwards.

So a changed cap, kind or set of labels parses nothing, and posts with the same view share one parse.

Stage phrases: posts.parquet to phrases.parquet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from cache import keys, tables
from cache.store import Store
from pipeline import engine, recipes
from pipeline.engine import Progress, Rows, Tally, silent
from pipeline.phrases import normalize, noun_phrases
from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.normalize import Sentence
from pipeline.phrases.parser import Parsed, Parser
from pipeline.phrases.registry import build_parser
from pipeline.provenance import note
from pipeline.ray_engine import spread
from schema.records import Phrase, Post, PostPhrases, Span

VERSION = "1"  # of what a stored row means
BATCH = 256  # posts that a parser gets at once; it makes its own passes of them
EMPTY = "empty-view"  # fallback of a post with nothing to parse

# One row a constituent: the view's sentence, words [start, end) of it, label. A row with sentence -1 carries, as its
# label, what the parser had to do (`Parsed.fallback`).
STORE_SCHEMA = pa.schema(
    [
        pa.field("sentence", pa.int32(), nullable=False),
        pa.field("start", pa.int32(), nullable=False),
        pa.field("end", pa.int32(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
    ]
)

Trees = list[dict[str, Any]]  # rows of STORE_SCHEMA


def find_phrases(
    posts: Sequence[Post],
    config: PhrasesConfig,
    parser: Parser,
    store: Rows | None = None,
    progress: Progress = engine.silent,
) -> tuple[list[PostPhrases], Tally]:
    """The noun phrases of every post, in order, and how many views were parsed for it.

    A post with nothing to parse has no phrases and the fallback "empty-view"; it needs no row.
    """
    views = [normalize.sentences(post.words) for post in posts]
    wanted = [(row_key(found, parser), found) for found in views if found]

    def compute(items: list[list[Sentence]]) -> list[Trees]:
        return parse_views(items, parser)

    rows, tally = engine.fill(store, wanted, compute, batch=BATCH, stage="phrases", progress=progress)
    named = iter(wanted)
    trees = [rows[next(named)[0]] if found else None for found in views]
    return [_phrases(*each, config) for each in zip(posts, views, trees, strict=True)], tally


def row_key(found: Sequence[Sentence], parser: Parser) -> str:
    """The store's key of a view's trees: its words, and all that the parser's answers depend on."""
    words = [list(sentence.words) for sentence in found]
    return keys.key("phrases", words=words, parser=dict(parser.identity), version=VERSION)


def parse_views(views: Sequence[Sequence[Sentence]], parser: Parser) -> list[Trees]:
    """The trees of each view, in order."""
    answers = iter(parser.parse([sentence.words for found in views for sentence in found]))
    return [_rows([next(answers) for _ in found]) for found in views]


def _rows(parsed: Sequence[Parsed]) -> Trees:
    rows: Trees = [
        {"sentence": number, "start": start, "end": end, "label": label}
        for number, one in enumerate(parsed)
        for start, end, label in one.spans
    ]
    fallbacks = sorted({one.fallback for one in parsed} - {""})
    return rows + [{"sentence": -1, "start": 0, "end": 0, "label": name} for name in fallbacks]


def _phrases(post: Post, found: Sequence[Sentence], rows: Trees | None, config: PhrasesConfig) -> PostPhrases:
    if rows is None:
        return PostPhrases(post.id, (), EMPTY)
    texts: dict[tuple[int, int], str] = {}
    nodes: list[noun_phrases.Node] = []
    for number, sentence in enumerate(found):
        tree = [(row["start"], row["end"], row["label"]) for row in rows if row["sentence"] == number]
        for start, end, label in noun_phrases.noun_phrases(_named(tree, sentence), config.labels, config.kind):
            node = sentence.index[start], sentence.index[end - 1] + 1, label
            texts[node[:2]] = " ".join(sentence.words[start:end])
            nodes.append(node)
    kept = noun_phrases.shortest(sorted(nodes), config.max_phrases)
    phrases = tuple(Phrase(Span(start, end), texts[start, end], label) for start, end, label in kept)
    fallback = "+".join(row["label"] for row in rows if row["sentence"] < 0)
    return PostPhrases(post.id, phrases, fallback, len(nodes) - len(kept))


def _named(tree: Sequence[noun_phrases.Node], sentence: Sentence) -> list[noun_phrases.Node]:
    """The nodes that name something: not only pronouns, @names and marks."""
    bare = [name or noun_phrases.is_bare(word) for word, name in zip(sentence.words, sentence.is_name, strict=True)]
    return [node for node in tree if not all(bare[node[0] : node[1]])]


def run(config: PhrasesConfig, posts: Path, out: Path, store_root: Path, progress: Progress = silent) -> Tally:
    """Publish `out`, one row a post; its meta names parser and parameters under `phrases`."""
    parser = build_parser(config)
    found = tables.read_posts(posts)
    with Store.open(store_root.absolute() / "phrases", schema=STORE_SCHEMA, producer=parser.identity) as store:
        rows = spread(config, store, recipes.of_phrases(config), parser.identity)
        phrases, tally = find_phrases(found.posts, config, parser, rows, progress)
    tables.write_phrases(out, phrases, {"phrases": note(config, parser.identity, synthetic=False)})
    return replace(tally, n_cut=sum(one.n_cut for one in phrases))

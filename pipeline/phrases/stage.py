"""Stage phrases: posts.parquet to phrases.parquet, the noun phrases of every post.

The store keeps whole parse trees; which of their nodes are kept is decided afterwards. So a changed cap, kind or label
parses nothing again, and posts with the same normalized words share one tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from cache import keys, tables
from cache.store import Store
from pipeline import engine
from pipeline.engine import Cluster, Plan, Progress, Readable, Rows, Tally, silent
from pipeline.phrases import normalize, noun_phrases
from pipeline.phrases.config import PhrasesConfig, open_parser
from pipeline.phrases.normalize import Sentence
from pipeline.phrases.parser import Parsed, Parser
from pipeline.provenance import note
from pipeline.ray_engine import cluster_of
from schema.records import Phrase, Post, PostPhrases, Span

VERSION = "1"  # of the meaning of a stored row
BATCH = 256  # posts that a parser gets at once (and a task of a cluster); a parser forms its own batches of them
EMPTY = "empty-view"  # fallback of a post with nothing to parse

# One row per constituent: index of the sentence, its words [start, end), label. A row with sentence -1 has
# `Parsed.fallback` as its label.
STORE = "phrases"
STORE_SCHEMA = pa.schema(
    [
        pa.field("sentence", pa.int32(), nullable=False),
        pa.field("start", pa.int32(), nullable=False),
        pa.field("end", pa.int32(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
    ]
)

Trees = list[dict[str, Any]]  # rows of STORE_SCHEMA


def plan(posts: Sequence[Post], parser: Parser) -> Plan[list[Sentence], list[Sentence]]:
    """The trees that posts need: one per post, none for a post with nothing to parse."""

    def rows() -> Iterator[tuple[str, list[tuple[str, list[Sentence]]], list[Sentence]]]:
        for post in posts:
            sentences = normalize.sentences(post.words)
            yield post.id, [(row_key(sentences, parser), sentences)] if sentences else [], sentences

    return Plan.of("phrases", rows())


def row_key(sentences: Sequence[Sentence], parser: Parser) -> str:
    """The store's key of a post's trees: its normalized words, and all that the parser's answers depend on."""
    words = [list(sentence.words) for sentence in sentences]
    return keys.key("phrases", words=words, parser=dict(parser.identity), version=VERSION)


def compute(items: dict[str, list[Sentence]], parser: Parser) -> Iterator[tuple[str, Trees]]:
    """(key, trees) of every item."""
    return engine.in_batches(items, partial(parse_posts, parser=parser), BATCH)


def parse_posts(posts: Sequence[Sequence[Sentence]], parser: Parser) -> list[Trees]:
    """The trees of each post's sentences, in order."""
    answers = iter(parser.parse([sentence.words for sentences in posts for sentence in sentences]))
    return [_trees([next(answers) for _ in sentences]) for sentences in posts]


def _trees(parsed: Sequence[Parsed]) -> Trees:
    rows: Trees = [
        {"sentence": number, "start": start, "end": end, "label": label}
        for number, sentence in enumerate(parsed)
        for start, end, label in sentence.spans
    ]
    fallbacks = sorted({sentence.fallback for sentence in parsed} - {""})
    return rows + [{"sentence": -1, "start": 0, "end": 0, "label": name} for name in fallbacks]


def assemble(plan: Plan[list[Sentence], list[Sentence]], rows: Readable, config: PhrasesConfig) -> list[PostPhrases]:
    """The noun phrases of the plan's posts, in order."""
    return [_phrases(post_id, sentences, trees, config) for post_id, sentences, trees in plan.read(rows)]


def _phrases(post_id: str, sentences: Sequence[Sentence], trees: list[Trees], config: PhrasesConfig) -> PostPhrases:
    if not trees:
        return PostPhrases(post_id, (), EMPTY)
    (rows,) = trees
    texts: dict[tuple[int, int], str] = {}
    nodes: list[noun_phrases.Node] = []
    for number, sentence in enumerate(sentences):
        tree = [(row["start"], row["end"], row["label"]) for row in rows if row["sentence"] == number]
        for start, end, label in noun_phrases.noun_phrases(_naming(tree, sentence), config.labels, config.kind):
            node = sentence.index[start], sentence.index[end - 1] + 1, label
            texts[node[:2]] = " ".join(sentence.words[start:end])
            nodes.append(node)
    kept = noun_phrases.shortest(sorted(nodes), config.max_phrases)
    phrases = tuple(Phrase(Span(start, end), texts[start, end], label) for start, end, label in kept)
    fallback = "+".join(row["label"] for row in rows if row["sentence"] < 0)
    return PostPhrases(post_id, phrases, fallback, len(nodes) - len(kept))


def _naming(tree: Sequence[noun_phrases.Node], sentence: Sentence) -> list[noun_phrases.Node]:
    """The nodes that name something: not only pronouns, @names and punctuation."""
    bare = [name or noun_phrases.is_bare(word) for word, name in zip(sentence.words, sentence.is_name, strict=True)]
    return [node for node in tree if not all(bare[node[0] : node[1]])]


def find_phrases(
    posts: Sequence[Post],
    config: PhrasesConfig,
    parser: Parser,
    store: Rows | None = None,
    progress: Progress = silent,
    cluster: Cluster | None = None,
) -> tuple[list[PostPhrases], Tally]:
    """The noun phrases of posts in memory, in order."""
    planned = plan(posts, parser)
    rows, tally = engine.run(planned, parser, compute, store, cluster=cluster, progress=progress)
    return assemble(planned, rows, config), tally


def run(config: PhrasesConfig, posts: Path, out: Path, store_root: Path, progress: Progress = silent) -> Tally:
    """Publish `out`, one row per post; its metadata names parser and parameters under `phrases`."""
    parser, table = open_parser(config), tables.read_posts(posts)
    cluster = cluster_of(config, partial(open_parser, config), _ungrouped, BATCH)
    with Store(store_root.absolute() / STORE, schema=STORE_SCHEMA, producer=parser.identity) as store:
        phrases, tally = find_phrases(table.posts, config, parser, store, progress, cluster)
    tables.write_phrases(out, phrases, {"phrases": note(config, parser.identity, synthetic=False)})
    return replace(tally, n_cut=sum(one.n_cut for one in phrases))


def _ungrouped(sentences: Sequence[Sentence]) -> str:
    return ""

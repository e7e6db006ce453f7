"""Stage phrases: posts.parquet to phrases.parquet, the noun phrases of every post.

The store keeps whole parse trees; which of their nodes are noun phrases is decided afterwards. So a changed cap, kind
or label parses nothing again, and posts with the same normalized words share one tree.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from cache import keys, tables
from cache.store import Store
from pipeline import engine
from pipeline.engine import ChunkedRun, Plan, Progress, Readable, Rows, Tally, silent
from pipeline.phrases import normalize
from pipeline.phrases.config import Kind, PhrasesConfig, open_parser
from pipeline.phrases.normalize import URL, Sentence
from pipeline.phrases.parser import Node, Parser, category
from pipeline.provenance import note
from pipeline.ray_engine import cluster_of
from schema.records import Phrase, Post, PostPhrases, Span

VERSION = "1"  # of the meaning of a stored row
BATCH = 256  # posts that a parser gets at once (and a task of a cluster); a parser makes its own batches of them
EMPTY = "empty-view"  # fallback of a post without anything to parse
STORE = "phrases"
# A row is a constituent: index of the sentence, its words [start, end), label; or sentence -1 and a fallback as label
COLUMNS = {"sentence": pa.int32(), "start": pa.int32(), "end": pa.int32(), "label": pa.string()}
STORE_SCHEMA = pa.schema([pa.field(name, type_, nullable=False) for name, type_ in COLUMNS.items()])

_PRONOUNS = """
    i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its itself
    we us our ours ourselves they them their theirs themselves u ya yall y'all im who whom whose which what that this
    these those there here one ones someone somebody something anyone anybody anything everyone everybody everything
    nobody nothing none all both each some any other others another
"""
PRONOUNS = frozenset(_PRONOUNS.split())

Trees = list[dict[str, Any]]  # rows of STORE_SCHEMA


def plan(posts: Sequence[Post], parser: Parser) -> Plan[list[Sentence], list[Sentence]]:
    """The trees that posts need: one per post, none for a post without anything to parse."""
    normalized = [(post.id, normalize.sentences(post.words)) for post in posts]
    rows = ((post_id, [(row_key(text, parser), text)] if text else [], text) for post_id, text in normalized)
    return Plan.of("phrases", rows)


def row_key(sentences: Sequence[Sentence], parser: Parser) -> str:
    """The store's key of a post's trees: its normalized words, and all that the parser's answers depend on."""
    words = [list(sentence.words) for sentence in sentences]
    return keys.key("phrases", words=words, parser=dict(parser.identity), version=VERSION)


def compute(items: dict[str, list[Sentence]], parser: Parser) -> Iterator[tuple[str, Trees]]:
    """(key, trees) of every item."""
    return engine.in_batches(items, partial(_parse, parser=parser), BATCH)


def _parse(posts: Sequence[Sequence[Sentence]], parser: Parser) -> list[Trees]:
    answers = iter(parser.parse([sentence.words for sentences in posts for sentence in sentences]))
    trees = []
    for sentences in posts:
        parsed = [next(answers) for _ in sentences]
        rows = [(number, *span) for number, sentence in enumerate(parsed) for span in sentence.spans]
        rows += [(-1, 0, 0, name) for name in sorted({sentence.fallback for sentence in parsed} - {""})]
        trees.append([dict(zip(COLUMNS, row, strict=True)) for row in rows])
    return trees


def assemble(plan: Plan[list[Sentence], list[Sentence]], rows: Readable, config: PhrasesConfig) -> list[PostPhrases]:
    """The noun phrases of the plan's posts, in order."""
    return [_phrases(post_id, sentences, trees, config) for post_id, sentences, trees in plan.read(rows)]


def _phrases(post_id: str, sentences: Sequence[Sentence], trees: list[Trees], config: PhrasesConfig) -> PostPhrases:
    if not trees:
        return PostPhrases(post_id, (), EMPTY)
    (rows,) = trees
    texts: dict[tuple[int, int], str] = {}
    nodes: list[Node] = []
    for number, sentence in enumerate(sentences):
        bare = [name or is_bare(word) for word, name in zip(sentence.words, sentence.is_name, strict=True)]
        tree = [(row["start"], row["end"], row["label"]) for row in rows if row["sentence"] == number]
        tree = [(start, end, label) for start, end, label in tree if not all(bare[start:end])]
        for start, end, label in noun_phrases(tree, config.labels, config.kind):
            node = sentence.index[start], sentence.index[end - 1] + 1, label
            texts[node[:2]] = " ".join(sentence.words[start:end])
            nodes.append(node)
    kept = shortest(sorted(nodes), config.max_phrases)
    phrases = tuple(Phrase(Span(start, end), texts[start, end], label) for start, end, label in kept)
    fallback = "+".join(row["label"] for row in rows if row["sentence"] < 0)
    return PostPhrases(post_id, phrases, fallback, len(nodes) - len(kept))


def noun_phrases(nodes: Iterable[Node], labels: Sequence[str], kind: Kind) -> list[Node]:
    """Nodes with one of the labels, unique by span and ordered by (start, end).

    `all` keeps all of them, `maximal` those inside no other, `base` those with no other inside. A span with several of
    the labels gets the first of them in `labels`.
    """
    spans: dict[tuple[int, int], str] = {}
    for start, end, label in nodes:
        name, old = category(label), spans.get((start, end))
        if name in labels and (old is None or labels.index(name) < labels.index(old)):
            spans[start, end] = name
    phrases = [(start, end, label) for (start, end), label in sorted(spans.items())]
    if kind == "maximal":
        return [node for node in phrases if not any(_inside(node, other) for other in phrases)]
    if kind == "base":
        return [node for node in phrases if not any(_inside(other, node) for other in phrases)]
    return phrases


def _inside(inner: Node, outer: Node) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1] and inner[:2] != outer[:2]


def is_bare(word: str) -> bool:
    """Whether a word names nothing: a pronoun, a URL, an @name or punctuation. A phrase of such words is dropped."""
    has_letters = any(character.isalnum() for character in word)
    return word.lower() in PRONOUNS or word.startswith("@") or URL.match(word) is not None or not has_letters


def shortest(nodes: Sequence[Node], n_max: int | None) -> list[Node]:
    """At most `n_max` of the nodes, in their order; the longest are cut first, of equally long ones the later."""
    if n_max is None or len(nodes) <= n_max:
        return list(nodes)
    return sorted(sorted(nodes, key=lambda node: (node[1] - node[0], node[0]))[:n_max])


def find_phrases(
    posts: Sequence[Post], config: PhrasesConfig, parser: Parser, store: Rows | None = None
) -> tuple[list[PostPhrases], Tally]:
    """The noun phrases of posts in memory, in order."""
    planned = plan(posts, parser)
    rows, tally = engine.run(planned, parser, compute, store)
    return assemble(planned, rows, config), tally


def run(config: PhrasesConfig, posts: Path, out: Path, store_root: Path, progress: Progress = silent) -> Tally:
    """Publish `out`, one row per post; its metadata names parser and parameters under `phrases`."""
    parser, n_cut = open_parser(config), 0
    cluster = cluster_of(config, partial(open_parser, config), lambda _: "", BATCH)
    chunks = tables.batched(tables.stream_posts(posts)[0], engine.CHUNK[config.engine])
    plans = (plan(chunk, parser) for chunk in chunks)

    def phrases() -> Iterator[PostPhrases]:
        nonlocal n_cut
        for planned, rows in chunked:
            found = assemble(planned, rows, config)
            n_cut += sum(post.n_cut for post in found)
            yield from found

    with Store(store_root.absolute() / STORE, schema=STORE_SCHEMA, producer=parser.identity) as store:
        chunked = ChunkedRun(plans, tables.n_rows(posts), parser, compute, store, cluster=cluster, progress=progress)
        tables.write_phrases(out, phrases(), {"phrases": note(config, parser.identity, synthetic=False)})
    return replace(chunked.tally, n_cut=n_cut)

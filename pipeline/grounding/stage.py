"""Boxes for general words and noun phrases: each picture decoded once for all that is asked of it.

Stage ground: posts and phrases to boxes.parquet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cache import keys, tables
from cache.store import Store
from pipeline import engine, recipes
from pipeline.engine import Progress, Rows, Tally, silent
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import Found, Grounder
from pipeline.grounding.registry import build_grounder
from pipeline.provenance import note, refuse_real_images, versions
from pipeline.ray_engine import spread
from schema.labels import LabelSet
from schema.records import Grounded, Image, Phrase, Post, PostPhrases, Source, Span
from vision import boxes, images

VERSION = "1"  # of what a stored row means
N_IMAGES = 8  # pictures that a grounder gets at once; it makes its own passes of them

# One row a query: the box in pixels of the picture as the grounder gave it, not clipped, and its score.
STORE_SCHEMA = pa.schema([pa.field(name, pa.float64(), nullable=False) for name in ("x0", "y0", "x1", "y1", "score")])


@dataclass(frozen=True, slots=True)
class Query:
    """A text asked of a picture; `among`: all texts that a merging grounder reads with it, itself included."""

    image: Image
    text: str
    among: tuple[str, ...] = ()


def ground_posts(
    posts: Sequence[Post],
    phrases: Sequence[PostPhrases],
    labels: LabelSet,
    config: GroundConfig,
    grounder: Grounder,
    images_folder: Path,
    store: Rows | None = None,
    progress: Progress = engine.silent,
) -> tuple[list[Grounded], Tally]:
    """Per post, in order: a box of each general word in each ok picture, then the best box of each noun phrase.

    A phrase is grounded in all pictures of its post and keeps the best-scoring one (of equals the first). Raises
    SyntheticError where a synthetic grounder would see pictures that nobody of us drew.
    """
    if grounder.synthetic and not config.allow_synthetic:
        refuse_real_images(posts, config.grounder)
    parsed = {one.post_id: one.phrases for one in phrases}
    asked = [(post, kept_phrases(parsed.get(post.id, ()), config)) for post in posts]
    name = keys.key("grounder", **grounder.identity)
    wanted = [
        (row_key(query, name), query)
        for post, kept in asked
        for query in queries(post, labels, kept, merged=grounder.merges)
    ]
    rows = store if store is not None else engine.Memory()
    compute = partial(compute_boxes, grounder=grounder, folder=images_folder, n_workers=config.workers)
    fill = partial(engine.stream, rows, dict(wanted), compute, stage="ground", progress=progress)
    tally = fill()
    answers = iter(_found(row) for row in engine.read(rows, [key for key, _ in wanted], fill))
    return [one for post, kept in asked for one in _choices(post, labels, kept, answers, grounder)], tally


def row_key(query: Query, grounder: str) -> str:
    """The store's key of a query's box: bytes of the picture, the text, all that the grounder's numbers depend on.

    `grounder` is the key of its identity. What is read together with a text changes its numbers, so it is named too.
    """
    among = {"among": query.among} if query.among else {}
    fields = {"image": query.image.digest, "text": query.text, "grounder": grounder, "pixels": images.VERSION}
    return keys.key("box", **fields, **among, version=VERSION)


def kept_phrases(phrases: Sequence[Phrase], config: GroundConfig) -> Sequence[Phrase]:
    """The phrases of a post that are grounded."""
    return phrases[: config.n_phrases_max]


def queries(post: Post, labels: LabelSet, phrases: Sequence[Phrase], *, merged: bool) -> list[Query]:
    """All that is asked of a post's ok pictures: of each the general words, then the phrases.

    `merged`: the phrases are read together, and so are the general words; apart from each other, so that all posts
    with a picture share its general words.
    """
    groups = [list(labels.general_words), [phrase.text for phrase in phrases]]
    among = [tuple(dict.fromkeys(texts)) if merged else () for texts in groups]
    return [
        Query(image, text, together)
        for image in post.images
        if image.ok
        for texts, together in zip(groups, among, strict=True)
        for text in texts
    ]


def _choices(
    post: Post, labels: LabelSet, phrases: Sequence[Phrase], answers: Iterator[Found], grounder: Grounder
) -> Iterator[Grounded]:
    """The post's rows of the table from the answers to its `queries`."""
    shown = [index for index, image in enumerate(post.images) if image.ok]
    found = {index: [next(answers) for _ in (*labels.general_words, *phrases)] for index in shown}
    for index in shown:
        for word, one in zip(labels.general_words, found[index], strict=False):
            yield _grounded(post, index, word, None, one, grounder)
    for number, phrase in enumerate(phrases, start=len(labels.general_words)):
        if shown:
            scores = {index: _score(found[index][number]) for index in shown}
            best = max(shown, key=scores.__getitem__)
            yield _grounded(post, best, phrase.text, phrase.span, found[best][number], grounder)


def _grounded(post: Post, index: int, text: str, span: Span | None, found: Found, grounder: Grounder) -> Grounded:
    image = post.images[index]
    box, clamped = boxes.clip(found.xyxy, image.width, image.height, index)
    source: Source = "phrase" if span else "general"
    return Grounded(post.id, source, text, span, box, _score(found), clamped, named(grounder))


def named(grounder: Grounder) -> str:
    """`name@weights`, their digest in short; a grounder without weights is named by its version."""
    identity = grounder.identity
    return f"{identity['name']}@{identity.get('weights', '')[:12] or identity.get('version', '')}"


def compute_boxes(
    missing: dict[str, Query], grounder: Grounder, folder: Path, n_workers: int
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(key, row) of every missing query, each picture decoded once for all that is asked of it."""
    by_image: dict[str, list[tuple[str, Query]]] = defaultdict(list)
    for key, query in missing.items():
        by_image[query.image.digest].append((key, query))
    prepared = engine.ahead(partial(_prepare, grounder=grounder, folder=folder), by_image.values(), n_workers)
    while part := list(islice(prepared, N_IMAGES)):
        lists = [(image, together) for image, jobs in part for together in _together(jobs)]
        asked = [list(jobs[0][1].among) or [query.text for _, query in jobs] for _, jobs in lists]
        answers = grounder.ground([image for image, _ in lists], asked)
        for (_, jobs), texts, listed in zip(lists, asked, answers, strict=True):
            found = dict(zip(texts, listed, strict=True))
            for key, query in jobs:
                one = found[query.text]
                yield key, [dict(zip(STORE_SCHEMA.names, (*one.xyxy, one.score), strict=True))]


def _prepare(jobs: list[tuple[str, Query]], grounder: Grounder, folder: Path) -> tuple[Any, list[tuple[str, Query]]]:
    return grounder.prepare(images.load(folder, jobs[0][1].image)), jobs


def _together(jobs: list[tuple[str, Query]]) -> list[list[tuple[str, Query]]]:
    """A picture's jobs by what they are read among: all in one list where the grounder merges nothing."""
    groups: dict[tuple[str, ...], list[tuple[str, Query]]] = defaultdict(list)
    for job in jobs:
        groups[job[1].among].append(job)
    return list(groups.values())


def _found(row: list[dict[str, Any]]) -> Found:
    values = [row[0][name] for name in STORE_SCHEMA.names]
    return Found((values[0], values[1], values[2], values[3]), values[4])


def _score(found: Found) -> float:
    return float(np.float32(found.score))  # as the table keeps it


def run(
    config: GroundConfig,
    posts: Path,
    phrases: Path,
    images: Path,
    out: Path,
    store_root: Path,
    progress: Progress = silent,
) -> Tally:
    """Publish `out`, one row a box. `images` is the folder of the pictures.

    Its meta hands on what the phrases say of themselves, adds `ground`, and counts under `n_cut` the phrases beyond the
    cap, under `n_too_long` the boxes of texts whose end the grounder does not read.
    """
    grounder = build_grounder(config)
    producer = {**grounder.identity, **versions()}
    found, (parsed, before) = tables.read_posts(posts), tables.read_phrases(phrases)
    with Store.open(store_root.absolute() / "boxes", schema=STORE_SCHEMA, producer=producer) as store:
        kept = spread(config, store, recipes.of_boxes(config, images), grounder.identity)
        rows, tally = ground_posts(found.posts, parsed, found.labels, config, grounder, images, kept, progress)
    n_cut = sum(len(one.phrases) - len(kept_phrases(one.phrases, config)) for one in parsed)
    too_long = {text for text in {row.text for row in rows} if grounder.is_cut(text)}
    counts = {"n_cut": n_cut, "n_too_long": sum(row.text in too_long for row in rows)}
    meta = {**before, "ground": note(config, grounder.identity, synthetic=grounder.synthetic), **counts}
    tables.write_boxes(out, rows, meta)
    return replace(tally, n_cut=n_cut, n_too_long=counts["n_too_long"])

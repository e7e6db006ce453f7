"""Boxes for general words and noun phrases: each picture decoded once for all that is asked of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa

from cache import keys
from pipeline import engine
from pipeline.engine import Progress, Rows, Tally
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import Found, Grounder
from pipeline.undrawn import refuse_undrawn
from schema.labels import LabelSet
from schema.records import Grounded, Image, Phrase, Post, PostPhrases, Source, Span
from vision import boxes, images

VERSION = "1"  # of what a stored row means
N_IMAGES = 8  # pictures that a grounder gets at once; it makes its own passes of them
N_WORKERS = 2  # threads that decode: a grounder takes longer over a picture than any decoder

# One row a query: the box in pixels of the picture as the grounder gave it, not clipped, and its score.
STORE_SCHEMA = pa.schema([pa.field(name, pa.float64(), nullable=False) for name in ("x0", "y0", "x1", "y1", "score")])


@dataclass(frozen=True, slots=True)
class Query:
    """A text asked of a picture."""

    image: Image
    text: str


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
    ToyError where a toy grounder would see pictures that nobody of us drew.
    """
    if grounder.toy and not config.allow_toy:
        refuse_undrawn(posts, config.grounder)
    parsed = {one.post_id: one.phrases for one in phrases}
    asked = [(post, kept_phrases(parsed.get(post.id, ()), config)) for post in posts]
    name = keys.key("grounder", **grounder.identity)
    wanted = [(row_key(query, name), query) for post, kept in asked for query in _queries(post, labels, kept)]
    rows = store if store is not None else engine.Memory()
    compute = partial(_compute, grounder=grounder, folder=images_folder)
    tally = engine.stream(rows, dict(wanted), compute, stage="ground", progress=progress)
    answers = iter(_found(row) for row in rows.get([key for key, _ in wanted]))
    return [one for post, kept in asked for one in _choices(post, labels, kept, answers, grounder)], tally


def row_key(query: Query, grounder: str) -> str:
    """The store's key of a query's box: bytes of the picture, the text, all that the grounder's numbers depend on.

    `grounder` is the key of its identity.
    """
    return keys.key(
        "box", image=query.image.digest, text=query.text, grounder=grounder, pixels=images.VERSION, version=VERSION
    )


def kept_phrases(phrases: Sequence[Phrase], config: GroundConfig) -> Sequence[Phrase]:
    """The phrases of a post that are grounded."""
    return phrases[: config.n_phrases_max]


def _queries(post: Post, labels: LabelSet, phrases: Sequence[Phrase]) -> list[Query]:
    """All that is asked of a post's ok pictures: of each the general words, then the phrases."""
    texts = [*labels.general_words, *(phrase.text for phrase in phrases)]
    return [Query(image, text) for image in post.images if image.ok for text in texts]


def _choices(
    post: Post, labels: LabelSet, phrases: Sequence[Phrase], answers: Iterator[Found], grounder: Grounder
) -> Iterator[Grounded]:
    """The post's rows of the table from the answers to its `_queries`."""
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
    """`name@revision`: the weights' digest in short where there is no revision."""
    identity = grounder.identity
    revision = identity.get("revision") or identity.get("weights", "")[:12] or identity.get("version", "")
    return f"{identity['name']}@{revision}"


def _compute(missing: dict[str, Query], grounder: Grounder, folder: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    by_image: dict[str, list[tuple[str, Query]]] = defaultdict(list)
    for key, query in missing.items():
        by_image[query.image.digest].append((key, query))
    loaded = engine.ahead(partial(_load, folder=folder), by_image.values(), N_WORKERS)
    while part := list(islice(loaded, N_IMAGES)):
        texts = [[query.text for _, query in jobs] for _, jobs in part]
        for (_, jobs), listed in zip(part, grounder.ground([image for image, _ in part], texts), strict=True):
            for (key, _), one in zip(jobs, listed, strict=True):
                yield key, [dict(zip(STORE_SCHEMA.names, (*one.xyxy, one.score), strict=True))]


def _load(jobs: list[tuple[str, Query]], folder: Path) -> tuple[PIL.Image.Image, list[tuple[str, Query]]]:
    return images.load(folder, jobs[0][1].image), jobs


def _found(row: list[dict[str, Any]]) -> Found:
    values = [row[0][name] for name in STORE_SCHEMA.names]
    return Found((values[0], values[1], values[2], values[3]), values[4])


def _score(found: Found) -> float:
    return float(np.float32(found.score))  # as the table keeps it

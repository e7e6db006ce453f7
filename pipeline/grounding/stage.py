"""Stage ground: posts and phrases to boxes.parquet, a box for every general word and noun phrase."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from cache import keys, tables
from cache.store import Store
from pipeline import engine
from pipeline.engine import ChunkedRun, Plan, Progress, Readable, Rows, Tally, silent
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import Grounder, ScoredBox
from pipeline.grounding.registry import open_grounder
from pipeline.provenance import note, refuse_real_images, versions
from pipeline.ray_engine import cluster_of
from schema.labels import LabelSet
from schema.records import Image, Phrase, Post, PostPhrases, Region, Span
from vision import crops, images

VERSION = "1"  # of the meaning of a stored row
N_IMAGES = 24  # images that a grounder gets at once, prepared a few MB each; it forms its own batches of them
N_QUERIES = 128  # of a cluster's task: a dozen images with their queries

# One row per query: the grounder's box in pixels of the image, not clipped, and its score
STORE = "boxes"
STORE_SCHEMA = pa.schema([pa.field(name, pa.float64(), nullable=False) for name in ("x0", "y0", "x1", "y1", "score")])


class Query(NamedTuple):
    """A text to locate in an image; `among`: all texts that a merging grounder reads with it, itself included."""

    image: Image
    text: str
    among: tuple[str, ...] = ()


class Grounding(NamedTuple):
    """A post, the phrases of it that are grounded, and how many are beyond the cap."""

    post: Post
    phrases: Sequence[Phrase]
    n_cut: int


Job = tuple[str, Query]  # key and query


def plan(
    posts: Sequence[Post], phrases: Sequence[PostPhrases], labels: LabelSet, config: GroundConfig, grounder: Grounder
) -> Plan[Query, Grounding]:
    """The boxes that posts need: in each usable image those of the general words, then of the noun phrases.

    Raises SyntheticError where a synthetic grounder would see images that the project did not draw.
    """
    if grounder.synthetic and not config.allow_synthetic:
        refuse_real_images(posts, config.grounder)
    by_post = {one.post_id: one.phrases for one in phrases}
    identity = keys.key("grounder", **grounder.identity)

    def rows() -> Iterator[tuple[str, list[Job], Grounding]]:
        for post in posts:
            every = by_post.get(post.id, ())
            grounded = every[: config.n_phrases_max]
            # A merging grounder reads the phrases together, and the general words by themselves: all posts with an
            # image share the boxes of its general words
            groups = (labels.general_words, [phrase.text for phrase in grounded])
            among = [tuple(dict.fromkeys(texts)) if grounder.merges else () for texts in groups]
            queries = [
                Query(image, text, together)
                for image in post.images
                if image.ok
                for texts, together in zip(groups, among, strict=True)
                for text in texts
            ]
            detail = Grounding(post, grounded, len(every) - len(grounded))
            yield post.id, [(row_key(query, identity), query) for query in queries], detail

    return Plan.of("ground", rows())


def row_key(query: Query, grounder: str) -> str:
    """The store's key of a query's box: bytes of the image, the text, all that the grounder's numbers depend on.

    `grounder` is the key of its identity. Texts that are read together change each other's boxes, so they are named.
    """
    among = {"among": query.among} if query.among else {}
    fields = {"image": query.image.digest, "text": query.text, "grounder": grounder, "pixels": images.VERSION}
    return keys.key("box", **fields, **among, version=VERSION)


def compute(
    items: dict[str, Query], grounder: Grounder, folder: Path, n_workers: int
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(key, row) of every query; each image is decoded once for all its queries. `folder` holds the images."""
    # By image, then by the texts that its queries are read with: one group for a grounder that does not merge
    by_image: dict[str, dict[tuple[str, ...], list[Job]]] = defaultdict(lambda: defaultdict(list))
    for key, query in items.items():
        by_image[query.image.digest][query.among].append((key, query))

    def prepare(groups: dict[tuple[str, ...], list[Job]]) -> tuple[Any, list[list[Job]]]:
        image = next(iter(groups.values()))[0][1].image
        return grounder.prepare(images.load(folder, image)), list(groups.values())

    prepared = engine.prefetch(prepare, by_image.values(), n_workers)
    while part := list(islice(prepared, N_IMAGES)):
        groups = [(image, jobs) for image, several in part for jobs in several]
        texts = [list(jobs[0][1].among) or [query.text for _, query in jobs] for _, jobs in groups]
        answers = grounder.ground([image for image, _ in groups], texts)
        for (_, jobs), queried, answer in zip(groups, texts, answers, strict=True):
            boxes_of = dict(zip(queried, answer, strict=True))
            for key, query in jobs:
                box = boxes_of[query.text]
                yield key, [dict(zip(STORE_SCHEMA.names, (*box.xyxy, box.score), strict=True))]


def assemble(
    plan: Plan[Query, Grounding], rows: Readable, labels: LabelSet, grounder: Grounder
) -> dict[str, list[Region]]:
    """Per post: a box of each general word in each usable image, then the best box of each noun phrase.

    A phrase is grounded in all images of its post and keeps the box with the best score, of equal ones the first.
    """
    name = short_name(grounder)
    return {
        post_id: list(_regions(detail.post, labels, detail.phrases, answers, name))
        for post_id, detail, answers in plan.read(rows)
    }


def _regions(
    post: Post, labels: LabelSet, phrases: Sequence[Phrase], rows: Sequence[list[dict[str, Any]]], grounder: str
) -> Iterator[Region]:
    """The post's regions from the rows of its queries."""
    answers = (  # with scores as the table stores them
        ScoredBox((row["x0"], row["y0"], row["x1"], row["y1"]), float(np.float32(row["score"]))) for [row] in rows
    )
    n_texts = len(labels.general_words) + len(phrases)
    by_image = {index: list(islice(answers, n_texts)) for index, image in enumerate(post.images) if image.ok}
    chosen: list[tuple[int, str, Span | None, ScoredBox]] = []
    for index, scored in by_image.items():
        chosen += [(index, word, None, box) for word, box in zip(labels.general_words, scored, strict=False)]
    for number, phrase in enumerate(phrases if by_image else (), start=len(labels.general_words)):
        best = max(by_image, key=lambda index: by_image[index][number].score)
        chosen.append((best, phrase.text, phrase.span, by_image[best][number]))
    for index, text, span, answer in chosen:
        image = post.images[index]
        box, clamped = crops.clip(answer.xyxy, image.width, image.height, index)
        yield Region("phrase" if span else "general", text, span, box, answer.score, clamped, grounder)


def short_name(grounder: Grounder) -> str:
    """`name@weights`, with a short digest; a grounder without weights is named by its version."""
    identity = grounder.identity
    return f"{identity['name']}@{identity.get('weights', '')[:12] or identity.get('version', '')}"


def ground_posts(
    posts: Sequence[Post],
    phrases: Sequence[PostPhrases],
    labels: LabelSet,
    config: GroundConfig,
    grounder: Grounder,
    folder: Path,
    store: Rows | None = None,
) -> tuple[dict[str, list[Region]], Tally]:
    """The regions of posts in memory, see `assemble`; `folder` holds the images. Errors as those of `plan`."""
    planned = plan(posts, phrases, labels, config, grounder)
    work = partial(compute, folder=folder.absolute(), n_workers=config.workers)
    rows, tally = engine.run(planned, grounder, work, store)
    return assemble(planned, rows, labels, grounder), tally


def run(
    config: GroundConfig,
    posts: Path,
    phrases: Path,
    images: Path,
    out: Path,
    store_root: Path,
    progress: Progress = silent,
) -> Tally:
    """Publish `out`, one row per box. `images` is the folder of the images.

    Its metadata repeats that of the phrases, adds `ground`, and counts under `n_cut` the phrases beyond the cap, under
    `n_too_long` the boxes of texts whose end the grounder does not read.
    """
    grounder = open_grounder(config)
    labels, (parsed, before) = tables.stream_posts(posts)[1], tables.stream_phrases(phrases)
    cluster = cluster_of(config, partial(open_grounder, config), attrgetter("image.digest"), N_QUERIES)
    by_post = tables.Lookup((one.post_id, one) for one in parsed)
    plans = (
        plan(chunk, list(by_post.take(post.id for post in chunk).values()), labels, config, grounder)
        for chunk in tables.batched(tables.stream_posts(posts)[0], engine.CHUNK[config.engine])
    )
    part = note(config, grounder.identity, synthetic=grounder.synthetic)
    meta: dict[str, Any] = {**before, "ground": part, "n_cut": 0, "n_too_long": 0}

    def regions() -> Iterator[tuple[str, list[Region]]]:
        for planned, rows in chunked:
            found = assemble(planned, rows, labels, grounder)
            texts = Counter(region.text for boxes in found.values() for region in boxes)
            meta["n_cut"] = chunked.tally.n_cut
            meta["n_too_long"] += sum(n for text, n in texts.items() if grounder.is_cut(text))
            yield from found.items()

    producer = {**grounder.identity, **versions()}
    with Store(store_root.absolute() / STORE, schema=STORE_SCHEMA, producer=producer) as store:
        work = partial(compute, folder=images.absolute(), n_workers=config.workers)
        chunked = ChunkedRun(plans, tables.n_rows(posts), grounder, work, store, cluster=cluster, progress=progress)
        tables.write_boxes(out, regions(), meta)
    return replace(chunked.tally, n_too_long=meta["n_too_long"])

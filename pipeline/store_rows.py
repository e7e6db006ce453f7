"""The store's rows of a dataset: which it needs, whether they come out the same today, which to delete with a post.

The stages' plans name the rows. What a stage needs depends on the rows of the stage before: those are taken from the
store where it has them, else from the dataset's tables.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cache import keys
from cache.shard_directory import shard_directories
from cache.store import Store
from cache.tables import Posts
from pipeline.engine import Plan, Rows
from pipeline.feature_pipeline import FeaturePipeline
from pipeline.grounding import stage as grounding
from pipeline.phrases import normalize
from pipeline.phrases import stage as parsing
from pipeline.regions import stage as regions
from pipeline.regions.stage import Crop
from schema.records import Box, Image, Post, PostPhrases, Region
from vision.boxes import clip

SCHEMAS = {parsing.STORE: parsing.STORE_SCHEMA, grounding.STORE: grounding.STORE_SCHEMA, regions.STORE: None}


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset's tables, and the parts that its parameters name now.

    `phrases` and `boxes` may be empty: then the store alone says what later stages need.
    """

    posts: Posts
    phrases: Sequence[PostPhrases]
    boxes: Mapping[str, Sequence[Region]]
    images: Path
    pipeline: FeaturePipeline

    def only(self, posts: Sequence[Post]) -> PreparedDataset:
        """The same for some of its posts."""
        return replace(self, posts=replace(self.posts, posts=list(posts)))


@dataclass(frozen=True)
class Step:
    """The rows that one stage needs, the name of its store, and how the rows are computed from the plan's items."""

    plan: Plan[Any, Any]
    store: str
    compute: Callable[[dict[str, Any]], Iterable[tuple[str, Any]]]


@contextlib.contextmanager
def open_stores(root: Path) -> Iterator[dict[str, Store]]:
    """The stores of the stages, by name."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Store(root / name, schema=one)) for name, one in SCHEMAS.items()}


def steps(dataset: PreparedDataset, stores: Mapping[str, Rows]) -> Iterator[Step]:
    """What each stage needs, stage after stage; nothing is computed.

    A step depends on what the store holds when it is asked for: rows that arrive between two steps (a pull) count.
    Posts whose phrases or boxes are unknown are left out of the later steps.
    """
    posts, labels, pipeline = dataset.posts.posts, dataset.posts.labels, dataset.pipeline
    trees = parsing.plan(posts, pipeline.parser)
    yield Step(trees, parsing.STORE, partial(parsing.compute, parser=pipeline.parser))

    rows = stores[parsing.STORE]
    stored = parsing.assemble(trees.only(trees.complete(rows)), rows, pipeline.phrases)
    phrases = {one.post_id: one for one in (*dataset.phrases, *stored)}
    found = grounding.plan(posts, list(phrases.values()), labels, pipeline.ground, pipeline.grounder)
    ground = partial(
        grounding.compute, grounder=pipeline.grounder, folder=dataset.images, n_workers=pipeline.ground.workers
    )
    yield Step(found, grounding.STORE, ground)

    rows = stores[grounding.STORE]
    known = found.only(found.complete(rows) & phrases.keys())
    boxes = {**dataset.boxes, **grounding.assemble(known, rows, labels, pipeline.grounder)}
    complete = [post for post in posts if _has_general(post, boxes.get(post.id, ()), labels.general_words)]
    crops = regions.plan(complete, boxes, labels, pipeline.regions, pipeline.net, list(phrases.values()))
    extract = partial(regions.compute, config=pipeline.regions, folder=dataset.images)
    yield Step(crops, regions.STORE, partial(extract, net=pipeline.net))
    if pipeline.regions.grid:
        net = pipeline.net.for_grid()
        yield Step(regions.plan_grids(posts, net), regions.STORE, partial(extract, net=net, grid=True))


def _has_general(post: Post, boxes: Sequence[Region], words: Sequence[str]) -> bool:
    """Whether every image of the post has its boxes of general words: those of a table may be of older labels."""
    general = {(box.image_index, box.text) for box in boxes if box.source == "general"}
    return all((index, word) in general for index, image in enumerate(post.images) if image.ok for word in words)


# How far a row may be from a recomputed one: beyond what another machine or library version causes, below any change
# of weights or method. Trees must be equal; a box is compared by its corners and score, a feature row by its largest
# difference relative to its largest number.
BOX_PX = 0.5
SCORE = 0.01
FEATURES = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.05}  # by the precision of the computation


@dataclass(frozen=True)
class Recomputed:
    """A row that was computed again; `change` says how it differs, "" where it does not."""

    stage: str
    key: str
    post_id: str
    change: str


def recompute(
    dataset: PreparedDataset, stores: Mapping[str, Rows], n_rows: int, rng: random.Random
) -> list[Recomputed]:
    """Compute `n_rows` of the stored rows again, as many of each stage as there are, and compare.

    Only rows of posts whose rows are all in the store are drawn; the store is not changed. Raises ImageError where an
    image changed since ingest.
    """
    planned, owners = list(steps(dataset, stores)), []
    for step in planned:
        complete = step.plan.complete(stores[step.store])
        owner = {key: post_id for post_id, listed in step.plan.keys.items() if post_id in complete for key in listed}
        names = sorted(owner)
        rng.shuffle(names)
        owners.append({key: owner[key] for key in names})
    tolerance, found = FEATURES[dataset.pipeline.regions.dtype], []
    for step, owner in zip(planned, _in_turn(owners, n_rows), strict=True):
        now = dict(step.compute({key: step.plan.items[key] for key in owner}))
        stored = stores[step.store].get(list(owner))
        for (key, post_id), before in zip(owner.items(), stored, strict=True):
            change = _change(step.plan.stage, before, now[key], tolerance)
            found.append(Recomputed(step.plan.stage, key, post_id, change))
    return found


def _in_turn(owners: Sequence[Mapping[str, str]], n_rows: int) -> list[dict[str, str]]:
    """At most `n_rows` of all, taken in turn from each."""
    counts = [0] * len(owners)
    while sum(counts) < n_rows and any(count < len(owner) for count, owner in zip(counts, owners, strict=True)):
        for index, owner in enumerate(owners):
            counts[index] += counts[index] < len(owner) and sum(counts) < n_rows
    return [dict(list(owner.items())[:count]) for owner, count in zip(owners, counts, strict=True)]


def _change(stage: str, before: Any, now: Any, tolerance: float) -> str:
    if stage == "phrases":
        return "" if before == now else "another tree"
    if stage == "ground":
        old, new = before[0], now[0]
        px = max(abs(old[name] - new[name]) for name in ("x0", "y0", "x1", "y1"))
        score = abs(old["score"] - new["score"])
        return "" if px <= BOX_PX and score <= SCORE else f"corners by {px:.3g} pixels, score by {score:.3g}"
    old, new = np.asarray(before, np.float64), np.asarray(now, np.float64)
    if old.shape != new.shape:
        return f"shape {list(new.shape)} instead of {list(old.shape)}"
    share = float(np.abs(old - new).max()) / (float(np.abs(old).max()) or 1.0)
    return "" if share <= tolerance else f"by {share:.3g} of its largest number, more than {tolerance:g}"


DTYPES = ("float16", "float32")  # in which a feature may have been stored


def keys_of_post(dataset: PreparedDataset, post: Post, stores: Mapping[str, Store]) -> set[str]:
    """The keys of all rows that today's parser, grounder and network can have made of a post.

    More than the plans name: boxes of every run of words, so that rows of other caps and kinds of phrases are found.
    """
    pipeline, phrases = dataset.pipeline, [one for one in dataset.phrases if one.post_id == post.id]
    boxes = dataset.boxes.get(post.id, ())
    found = set(parsing.plan([post], pipeline.parser).items)
    texts = {*dataset.posts.labels.general_words, *_word_runs(post), *(box.text for box in boxes)}
    texts |= {phrase.text for one in phrases for phrase in one.phrases}
    grounder = keys.key("grounder", **pipeline.grounder.identity)
    # a merging grounder's keys name the texts that are read together: as parsed last
    plan = grounding.plan([post], phrases, dataset.posts.labels, pipeline.ground, pipeline.grounder)
    for index, image in enumerate(post.images):
        if image.ok:
            queries = {grounding.row_key(grounding.Query(image, text), grounder) for text in texts}
            queries |= {key for key, query in plan.items.items() if query.image == image}
            here = {box.box for box in boxes if box.box and box.image_index == index}
            found |= queries | _crops(image, here | _stored_boxes(image, index, queries, stores), pipeline)
    return found


def _word_runs(post: Post) -> Iterator[str]:
    """Every text that a phrase of the post can have."""
    for sentence in normalize.sentences(post.words):
        words = sentence.words
        for start in range(len(words)):
            for end in range(start + 1, len(words) + 1):
                yield " ".join(words[start:end])


def _stored_boxes(image: Image, index: int, queries: set[str], stores: Mapping[str, Store]) -> set[Box]:
    """The boxes that the store has for these queries."""
    store = stores[grounding.STORE]
    rows = store.get(sorted(queries - set(store.missing(sorted(queries)))))
    corners = [(row["x0"], row["y0"], row["x1"], row["y1"]) for (row,) in rows]
    return {clip(one, image.width, image.height, index)[0] for one in corners}


def _crops(image: Image, boxes: set[Box], pipeline: FeaturePipeline) -> set[str]:
    whole, net = Crop(image, Box(0, 0, image.width, image.height)), pipeline.net
    crops, name = [whole, *(Crop(image, box) for box in boxes)], regions.net_key(net)
    found = {regions.row_key(crop, name, dtype) for crop in crops for dtype in DTYPES}
    return found | {regions.row_key(whole, regions.net_key(net.for_grid()), regions.GRID_DTYPE, "grid")}


def sharing(post: Post, others: Sequence[Post]) -> list[Post]:
    """The posts that have an image of this post, or the same words for a parser."""

    def words(one: Post) -> list[tuple[str, ...]]:
        return [sentence.words for sentence in normalize.sentences(one.words)]

    digests, own = {image.digest for image in post.images if image.ok}, words(post)
    return [
        other
        for other in others
        if not digests.isdisjoint(image.digest for image in other.images if image.ok) or (own and own == words(other))
    ]


def other_producers(root: Path, pipeline: FeaturePipeline) -> list[str]:
    """By name, the parts other than these that made rows of the store: keys of theirs cannot be named by post."""
    known = [part.identity.items() for part in (pipeline.parser, pipeline.grounder, pipeline.net)]
    found = set()
    for directory in shard_directories(root):
        for shard in directory.survey():
            # a shard with an error is left for forget to delete or refuse; a producer names library versions too
            if not shard.error and not any(part <= shard.producer.items() for part in known):
                found.add(shard.producer["producer"])
    return sorted(found)

"""The store's rows of a dataset: which it needs, whether they can be reproduced, which to delete with a post.

The stages' plans name the rows, from the stored rows of the stage before, or else from the dataset's tables.
"""

import contextlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from cache import keys, maintenance, remotes
from cache.remotes import TransferReport
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
from schema.errors import ConfigError, DataError
from schema.records import CORNERS, SPLITS, Box, Post, PostPhrases, Region
from vision.crops import clip

SCHEMAS = {parsing.STORE: parsing.STORE_SCHEMA, grounding.STORE: grounding.STORE_SCHEMA, regions.STORE: None}


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset's tables, and the parts that its parameters name now."""

    posts: Posts
    phrases: Sequence[PostPhrases]  # may be empty, as `boxes`: then only the store says what later stages need
    boxes: Mapping[str, Sequence[Region]]
    images: Path
    pipeline: FeaturePipeline

    def only(self, posts: Sequence[Post]) -> Self:
        return replace(self, posts=replace(self.posts, posts=list(posts)))


Datasets = Mapping[str, PreparedDataset]  # by name


class Step(NamedTuple):
    """The rows that one stage needs, the name of its store, and a function that computes rows from items by key."""

    plan: Plan[Any, Any]
    store: str
    compute: Callable[[dict[str, Any]], Iterable[tuple[str, Any]]]


@contextlib.contextmanager
def open_stores(root: Path) -> Iterator[dict[str, Store]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Store(root / name, schema=one)) for name, one in SCHEMAS.items()}


def steps(dataset: PreparedDataset, stores: Mapping[str, Rows]) -> Iterator[Step]:
    """What each stage needs, stage after stage; nothing is computed, but rows may be pulled between two steps.

    Posts without known phrases or boxes are left out of later steps.
    """
    posts, labels, pipeline = dataset.posts.posts, dataset.posts.labels, dataset.pipeline
    trees = parsing.plan(posts, pipeline.parser)
    yield Step(trees, parsing.STORE, partial(parsing.compute, parser=pipeline.parser))

    rows = stores[parsing.STORE]
    stored = parsing.assemble(trees.only(trees.complete(rows)), rows, pipeline.phrases)
    phrases = {one.post_id: one for one in (*dataset.phrases, *stored)}
    queries = grounding.plan(posts, list(phrases.values()), labels, pipeline.ground, pipeline.grounder)
    ground = partial(grounding.compute, grounder=pipeline.grounder, folder=dataset.images)
    yield Step(queries, grounding.STORE, partial(ground, n_workers=pipeline.ground.workers))

    rows = stores[grounding.STORE]
    known = queries.only(queries.complete(rows) & phrases.keys())
    boxes = {**dataset.boxes, **grounding.assemble(known, rows, labels, pipeline.grounder)}
    complete = []
    for post in posts:  # the boxes of a table may be of older labels
        general = {(one.image_index, one.text) for one in boxes.get(post.id, ()) if one.source == "general"}
        usable = [index for index, image in enumerate(post.images) if image.ok]
        if general.issuperset(itertools.product(usable, labels.general_words)):
            complete.append(post)
    crops = regions.plan(complete, boxes, labels, pipeline.regions, pipeline.net, list(phrases.values()))
    extract = partial(regions.compute, config=pipeline.regions, folder=dataset.images)
    yield Step(crops, regions.STORE, partial(extract, net=pipeline.net))
    if pipeline.regions.grid:
        grids = regions.plan_grids(posts, pipeline.net)
        yield Step(grids, regions.STORE, partial(extract, net=pipeline.net, grid=True))


# How far a row may be from a recomputed one: more than another machine or library version causes, less than any change
# of weights or method. Trees must be equal; a box is compared by its corners and score, a feature row by its largest
# difference relative to its largest number.
BOX_PX = 0.5
SCORE = 0.01
FEATURES = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.05}  # by the precision of the computation


class Recomputed(NamedTuple):
    stage: str
    key: str
    post_id: str
    change: str  # how the row differs, "" if it does not


def recompute(datasets: Datasets, root: Path, n_rows: int, seed: int | None) -> dict[str, dict[str, Any]]:
    """By dataset: how many rows were computed again, and a line for each that changed."""
    report = {}
    with open_stores(root) as stores:
        for name, dataset in datasets.items():
            rows = recompute_rows(dataset, stores, n_rows, random.Random(seed))
            moved = [f"{row.stage}, post {row.post_id}, row {row.key}: {row.change}" for row in rows if row.change]
            report[name] = {"n_rows": len(rows), "moved": moved}
    return report


def recompute_rows(
    dataset: PreparedDataset, stores: Mapping[str, Rows], n_rows: int, rng: random.Random
) -> list[Recomputed]:
    """Compute `n_rows` stored rows of complete posts again, the same number from each stage; the store is unchanged.

    Raises ImageError if an image changed since ingest.
    """
    planned, owners = list(steps(dataset, stores)), []
    for step in planned:
        complete = step.plan.complete(stores[step.store])
        owner = {key: post_id for post_id, listed in step.plan.keys.items() if post_id in complete for key in listed}
        names = sorted(owner)
        rng.shuffle(names)
        owners.append([(key, owner[key]) for key in names])
    in_turn = [(index, row) for rows in itertools.zip_longest(*owners) for index, row in enumerate(rows) if row]
    recomputed = []
    for index, step in enumerate(planned):
        owner = dict(row for which, row in in_turn[:n_rows] if which == index)
        now = dict(step.compute({key: step.plan.items[key] for key in owner}))
        for (key, post_id), before in zip(owner.items(), stores[step.store].get(list(owner)), strict=True):
            change = _change(step.plan.stage, before, now[key], FEATURES[dataset.pipeline.regions.dtype])
            recomputed.append(Recomputed(step.plan.stage, key, post_id, change))
    return recomputed


def _change(stage: str, before: Any, now: Any, tolerance: float) -> str:
    if stage == "phrases":
        return "" if before == now else "another tree"
    if stage == "ground":
        (old,), (new,) = before, now
        px = max(abs(old[name] - new[name]) for name in CORNERS)
        score = abs(old["score"] - new["score"])
        return "" if px <= BOX_PX and score <= SCORE else f"corners by {px:.3g} pixels, score by {score:.3g}"
    old, new = np.asarray(before, np.float64), np.asarray(now, np.float64)
    if old.shape != new.shape:
        return f"shape {list(new.shape)} instead of {list(old.shape)}"
    share = float(np.abs(old - new).max()) / (float(np.abs(old).max()) or 1.0)
    return "" if share <= tolerance else f"by {share:.3g} of its largest number, more than {tolerance:g}"


def choose(posts: Sequence[Post], parts: Sequence[str], where: str) -> list[Post]:
    """Some of a dataset's posts: a part is a split, or N for the first N posts of each split. Raises ConfigError."""
    chosen = list(posts)
    for part in parts:
        by_split = {name: [post for post in chosen if post.split == name] for name in SPLITS}
        split = "dev" if part == "valid" else part
        if part.isdecimal():
            chosen = [post for some in by_split.values() for post in some[: int(part)]]
        elif split not in by_split:
            todo = f"use {', '.join(SPLITS)}, or a number of posts"
            raise ConfigError("unknown part of a dataset", where=where, found=repr(part), todo=todo)
        else:
            chosen = by_split[split]
    if not chosen:
        raise ConfigError("no post in this part of the dataset", where=where)
    return chosen


def pull(dataset: PreparedDataset, root: Path, url: str) -> tuple[list[dict[str, Any]], TransferReport]:
    """Pull the rows that posts need; returns how many rows each stage needs and has now, and what was transferred."""
    stages, total = [], TransferReport(0, 0, 0)
    with open_stores(root) as stores:
        for step in steps(dataset, stores):
            needed = list(step.plan.items)
            part = remotes.pull(root, url, needed)
            damaged = tuple(dict.fromkeys((*total.damaged, *part.damaged)))
            n_present = part.n_present - total.n_shards  # an earlier step's shards are present by now
            total = TransferReport(total.n_shards + part.n_shards, total.n_bytes + part.n_bytes, n_present, damaged)
            n_here = len(needed) - len(stores[step.store].missing(needed))
            stages.append({"stage": step.plan.stage, "n_rows": len(needed), "n_here": n_here})
    return stages, total


DTYPES = ("float16", "float32")  # in which a feature may have been stored


@dataclass(frozen=True)
class Forgotten:
    n_rows: int
    n_shards: int  # rewritten
    n_left: int  # rows of the post that a final check found, those of remotes included
    n_kept: int  # rows that the posts `kept_for` need
    kept_for: tuple[str, ...]
    others: tuple[str, ...]  # producers whose rows cannot be named by post
    purged: Mapping[str, int]  # rows removed from each remote


def forget(post_id: str, datasets: Datasets, project: Datasets, root: Path, urls: Sequence[str] = ()) -> Forgotten:
    """Remove the rows that only this post of `datasets` uses; `project`: all datasets whose posts may share rows.

    Raises DataError if a dataset has no such post.
    """
    own: set[str] = set()
    used: set[str] = set()  # by posts that share an image or a sentence with this post
    kept_for: list[str] = []
    posts, producers = [], set()
    with open_stores(root) as stores:
        for name, dataset in datasets.items():
            post = next((one for one in dataset.posts.posts if one.id == post_id), None)
            if post is None:
                raise DataError(f"no post {post_id!r}", where=f"dataset {name}", todo="ids are in posts.parquet")
            posts.append(post)
            own |= keys_of_post(dataset, post, stores)
            producers |= set(other_producers(root, dataset.pipeline))
        for name, dataset in project.items():
            others = [one for one in dataset.posts.posts if name not in datasets or one.id != post_id]
            if sharers := {one.id: one for post in posts for one in sharing(post, others)}:
                kept_for += [f"{one} ({name})" for one in sharers]
                used |= {key for step in steps(dataset.only(list(sharers.values())), stores) for key in step.plan.items}
        shared = sorted(own & used)
        n_kept = sum(len(shared) - len(store.missing(shared)) for store in stores.values())
    remote = {url: remotes.purge(url, own - used) for url in urls}  # first: the store names their rows
    local = maintenance.forget(root, own - used)
    n_left = local.n_left + sum(one.n_left for one in remote.values())
    purged = {url: one.n_rows for url, one in remote.items()}
    return Forgotten(local.n_rows, local.n_shards, n_left, n_kept, tuple(kept_for), tuple(sorted(producers)), purged)


def keys_of_post(dataset: PreparedDataset, post: Post, stores: Mapping[str, Store]) -> set[str]:
    """The keys of all rows that today's parser, grounder and network can have made of a post, with any caps."""
    pipeline, labels, store = dataset.pipeline, dataset.posts.labels, stores[grounding.STORE]
    phrases, boxes = [one for one in dataset.phrases if one.post_id == post.id], dataset.boxes.get(post.id, ())
    texts = {*labels.general_words, *(box.text for box in boxes)}
    texts |= {phrase.text for one in phrases for phrase in one.phrases}
    for sentence in normalize.sentences(post.words):  # every run of words may have been a phrase
        runs = itertools.combinations(range(len(sentence.words) + 1), 2)
        texts |= {" ".join(sentence.words[start:end]) for start, end in runs}
    grounder, net = keys.key("grounder", **pipeline.grounder.identity), regions.net_key(pipeline.net)
    # a merging grounder's keys name the texts that are read together: as parsed last
    plan = grounding.plan([post], phrases, labels, pipeline.ground, pipeline.grounder)
    result = set(parsing.plan([post], pipeline.parser).items)
    for index, image in enumerate(post.images):
        if image.ok:
            queries = {grounding.row_key(grounding.Query(image, text), grounder) for text in texts}
            queries |= {key for key, query in plan.items.items() if query.image == image}
            stored = store.get(sorted(queries - set(store.missing(sorted(queries)))))
            whole = Box(0, 0, image.width, image.height)
            places = {whole, *(one.box for one in boxes if one.box and one.image_index == index)}
            for (row,) in stored:
                x0, y0, x1, y1 = (row[name] for name in CORNERS)
                places.add(clip((x0, y0, x1, y1), image.width, image.height, index)[0])
            crops = [Crop(image, box) for box in places]
            result |= queries | {regions.row_key(crop, net, dtype) for crop in crops for dtype in DTYPES}
            result.add(regions.row_key(Crop(image, whole), net, regions.GRID_DTYPE, "grid"))
    return result


def sharing(post: Post, others: Sequence[Post]) -> list[Post]:
    """The posts that have an image of this post, or the same words for a parser."""

    def content(one: Post) -> tuple[set[str], list[tuple[str, ...]]]:
        sentences = [sentence.words for sentence in normalize.sentences(one.words)]
        return {image.digest for image in one.images if image.ok}, sentences

    digests, sentences = content(post)
    compared = [(other, *content(other)) for other in others]
    return [one for one, images, words in compared if images & digests or (sentences and words == sentences)]


def other_producers(root: Path, pipeline: FeaturePipeline) -> list[str]:
    """By name, the parts other than these that made rows of the store: keys of theirs cannot be named by post."""
    known = [part.identity.items() for part in (pipeline.parser, pipeline.grounder, pipeline.net)]
    shards = [shard for directory in shard_directories(root) for shard in directory.survey()]
    # `forget` deletes or refuses a shard with an error; a producer names library versions too
    others = [one for one in shards if not one.error and not any(part <= one.producer.items() for part in known)]
    return sorted({shard.producer["producer"] for shard in others})

"""Which rows of the store a dataset's posts need.

The stages' own functions are asked, so these keys are theirs by construction. What a stage needs follows from the rows
of the stage before: those are taken from the store where it holds them, else from the dataset's tables.

Whether stored rows come out the same today: some are computed again and compared.

The rows that a post has left in the store: named one by one, since keys are digests and say nothing themselves.

More is named than the stages asked for: boxes of every run of words, so that other caps and kinds of phrases, used
before today's parameters, leave nothing behind.
"""

from __future__ import annotations

import contextlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cache import keys
from cache.shard_directory import shard_directories
from cache.store import Store
from cache.tables import Posts
from pipeline.engine import Rows
from pipeline.feature_pipeline import Chain
from pipeline.grounding import stage as grounding
from pipeline.phrases import normalize
from pipeline.phrases import stage as parsing
from pipeline.regions import stage as regions
from pipeline.regions import stage as regions_stage
from pipeline.regions.stage import Crop
from schema.records import Box, Grounded, Image, Post, PostPhrases
from vision.boxes import clip

Work = Callable[[Sequence[Post], Rows], object]


@dataclass(frozen=True)
class Made:
    """A dataset as its stages left it, and the parts that its parameters name now.

    `phrases` and `boxes` may be empty: then only what follows from the store is known. `build` makes the parts, once
    they are asked for; the configurations in it allow toys, which no key depends on.
    """

    posts: Posts
    phrases: Sequence[PostPhrases]
    boxes: Sequence[Grounded]
    images: Path
    build: Callable[[], Chain]

    def only(self, posts: Sequence[Post]) -> Made:
        """The same for some of its posts."""
        return replace(self, posts=replace(self.posts, posts=list(posts)))


@dataclass(frozen=True)
class Step:
    """The keys that one stage wants for each post, by post id; `work` is the stage's function over posts and rows."""

    stage: str  # phrases, ground, regions or grid
    store: str  # the name of its store
    keys: Mapping[str, list[str]]
    work: Work

    @property
    def unique(self) -> list[str]:
        """All its keys, each once."""
        return list(dict.fromkeys(key for listed in self.keys.values() for key in listed))

    def held(self, rows: Rows) -> set[str]:
        """The posts all of whose rows are there."""
        absent = set(rows.missing(self.unique))
        return {post_id for post_id, listed in self.keys.items() if absent.isdisjoint(listed)}


@contextlib.contextmanager
def open_stores(root: Path) -> Iterator[dict[str, Store]]:
    """The stores of the stages, by name."""
    schemas = {"phrases": parsing.STORE_SCHEMA, "boxes": grounding.STORE_SCHEMA, "regions": None}
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Store.open(root / name, schema=one)) for name, one in schemas.items()}


def wanted(made: Made, stores: Mapping[str, Rows]) -> Iterator[Step]:
    """What each stage wants, stage after stage; nothing is computed.

    A stage's step is made from what the store holds by then: rows that come in between two steps (a pull) count. Posts
    whose phrases or boxes are known from nowhere are left out of the later steps.
    """
    posts, labels, chain = made.posts.posts, made.posts.labels, made.build()

    def parse(some: Sequence[Post], rows: Rows) -> list[PostPhrases]:
        return parsing.find_phrases(some, chain.phrases, chain.parser, rows)[0]

    yield (step := _step("phrases", "phrases", posts, parse))
    parsed = {one.post_id: one for one in made.phrases}
    parsed |= {one.post_id: one for one in parse(of(step.held(stores["phrases"]), posts), stores["phrases"])}

    def ground(some: Sequence[Post], rows: Rows) -> list[Grounded]:
        known = [parsed[post.id] for post in some if post.id in parsed]
        return grounding.ground_posts(some, known, labels, chain.ground, chain.grounder, made.images, rows)[0]

    yield (step := _step("ground", "boxes", posts, ground))
    boxes = _by_post(made.boxes)
    boxes |= _by_post(ground(of(step.held(stores["boxes"]) & parsed.keys(), posts), stores["boxes"]))

    def extract(some: Sequence[Post], rows: Rows) -> object:
        chosen = [box for post in some for box in boxes.get(post.id, ())]
        known = [parsed[post.id] for post in some if post.id in parsed]
        return regions.extract_objects(some, chosen, labels, chain.regions, chain.net, made.images, rows, phrases=known)

    grounded = [post for post in posts if _is_grounded(post, boxes.get(post.id, ()), labels.general_words)]
    yield _step("regions", "regions", grounded, extract)
    if chain.regions.grid:
        yield _step(
            "grid",
            "regions",
            posts,
            lambda some, rows: regions_stage.extract_grids(some, chain.regions, chain.net, made.images, rows),
        )


def of(ids: set[str], posts: Sequence[Post]) -> list[Post]:
    """The posts with these ids, in order."""
    return [post for post in posts if post.id in ids]


class _Asked(Exception):
    """A stage has said which keys it wants."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__()
        self.keys = keys


class _Probe:
    """Rows that take a stage's wish and end it there."""

    def missing(self, keys: Sequence[str], /) -> list[str]:
        raise _Asked(list(keys))

    def put(self, rows: dict[str, Any], /) -> None:
        raise AssertionError("a stage asks before it puts")

    def flush(self) -> None:
        raise AssertionError("a stage asks before it flushes")

    def get(self, keys: Sequence[str], /) -> list[Any]:
        raise AssertionError("a stage asks before it gets")


def _step(stage: str, store: str, posts: Sequence[Post], work: Work) -> Step:
    asked: dict[str, list[str]] = {}
    for post in posts:
        try:
            work([post], _Probe())
        except _Asked as wish:
            asked[post.id] = wish.keys
    return Step(stage, store, asked, work)


def _by_post(boxes: Sequence[Grounded]) -> dict[str, list[Grounded]]:
    found: dict[str, list[Grounded]] = defaultdict(list)
    for one in boxes:
        found[one.post_id].append(one)
    return dict(found)


def _is_grounded(post: Post, boxes: Sequence[Grounded], words: Sequence[str]) -> bool:
    """Whether every picture of the post has its boxes of general words: those of a table may be of older labels."""
    general = {(one.box.image_index, one.text) for one in boxes if one.source == "general"}
    return all((index, word) in general for index, image in enumerate(post.images) if image.ok for word in words)


# How far a row may lie from a recomputed one: beyond what another machine or library version does, below any change
# of weights or method. Trees must be equal; a box is compared by its corners and score, a feature row by its largest
# difference over its largest number.
BOX_PX = 0.5
SCORE = 0.01
FEATURES = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.05}  # by the precision of the computation


@dataclass(frozen=True)
class Again:
    """A row that was computed again; `moved` says how it differs, "" where it does not."""

    stage: str
    key: str
    post_id: str
    moved: str


def recompute(made: Made, stores: Mapping[str, Rows], n_rows: int, rng: random.Random) -> list[Again]:
    """Compute `n_rows` of the stored rows once more, as many of each stage as there are, and compare.

    Only rows of posts that the store holds whole are drawn; the store is not changed. Raises ImageError where a picture
    is no longer what ingest saw.
    """
    steps, owners = list(wanted(made, stores)), []
    for step in steps:
        whole = step.held(stores[step.store])
        owner = {key: post_id for post_id, listed in step.keys.items() if post_id in whole for key in listed}
        names = sorted(owner)
        rng.shuffle(names)
        owners.append({key: owner[key] for key in names})
    tolerance, found = FEATURES[made.build().regions.dtype], []
    for step, owner in zip(steps, _shared_out(owners, n_rows), strict=True):
        view = _Hiding(stores[step.store], set(owner))
        step.work(of(set(owner.values()), made.posts.posts), view)
        stored = stores[step.store].get(list(owner))
        for (key, post_id), before in zip(owner.items(), stored, strict=True):
            found.append(Again(step.stage, key, post_id, _moved(step.stage, before, view.fresh[key], tolerance)))
    return found


class _Hiding:
    """A store in which some rows count as missing; what is computed for them stays in `fresh`."""

    def __init__(self, store: Rows, hidden: set[str]) -> None:
        self._store, self._hidden = store, hidden
        self.fresh: dict[str, Any] = {}

    def missing(self, keys: Sequence[str], /) -> list[str]:
        return [key for key in dict.fromkeys(keys) if key in self._hidden and key not in self.fresh]

    def put(self, rows: dict[str, Any], /) -> None:
        self.fresh |= rows

    def flush(self) -> None:
        """Nothing is kept."""

    def get(self, keys: Sequence[str], /) -> list[Any]:
        others = [key for key in keys if key not in self.fresh]
        values = self.fresh | dict(zip(others, self._store.get(others), strict=True))
        return [values[key] for key in keys]


def _shared_out(owners: Sequence[Mapping[str, str]], n_rows: int) -> list[dict[str, str]]:
    """At most `n_rows` of all, taken in turn from each."""
    counts = [0] * len(owners)
    while sum(counts) < n_rows and any(count < len(owner) for count, owner in zip(counts, owners, strict=True)):
        for index, owner in enumerate(owners):
            counts[index] += counts[index] < len(owner) and sum(counts) < n_rows
    return [dict(list(owner.items())[:count]) for owner, count in zip(owners, counts, strict=True)]


def _moved(stage: str, before: Any, now: Any, tolerance: float) -> str:
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
    part = float(np.abs(old - new).max()) / (float(np.abs(old).max()) or 1.0)
    return "" if part <= tolerance else f"by {part:.3g} of its largest number, more than {tolerance:g}"


DTYPES = ("float16", "float32")  # in which a feature may have been stored


def keys_of(made: Made, post: Post, stores: Mapping[str, Store]) -> set[str]:
    """The keys of all rows that today's parser, grounder and network can have made of a post."""
    chain, found = made.build(), set()
    sentences = normalize.sentences(post.words)
    if sentences:
        found.add(parsing.row_key(sentences, chain.parser))
    texts = {*made.posts.labels.general_words, *_runs(post)}
    texts |= {phrase.text for one in made.phrases if one.post_id == post.id for phrase in one.phrases}
    texts |= {box.text for box in made.boxes if box.post_id == post.id}
    for index, image in enumerate(post.images):
        if image.ok:
            asked = _queries(image, texts, chain) | _merged(made, post, image, chain)
            found |= asked
            boxes = {box.box for box in made.boxes if box.post_id == post.id and box.box.image_index == index}
            found |= _crops(image, boxes | _boxes(image, index, asked, stores["boxes"]), chain)
    return found


def sharing(post: Post, others: Sequence[Post]) -> list[Post]:
    """The posts that have a picture of this post, or the same words for a parser."""
    digests, words = {image.digest for image in post.images if image.ok}, _words(post)
    return [
        other
        for other in others
        if not digests.isdisjoint(image.digest for image in other.images if image.ok)
        or (words and words == _words(other))
    ]


def strangers(root: Path, chain: Chain) -> list[str]:
    """What other parts than these have made rows that the store holds, by name: theirs cannot be told by post."""
    known = [part.identity.items() for part in (chain.parser, chain.grounder, chain.net)]
    found = set()
    for directory in shard_directories(root):
        for shard in directory.survey():
            if shard.error:  # for forget to remove, or to refuse
                continue
            if not any(part <= shard.producer.items() for part in known):  # a producer names library versions too
                found.add(shard.producer_name)
    return sorted(found)


def _words(post: Post) -> list[tuple[str, ...]]:
    return [sentence.words for sentence in normalize.sentences(post.words)]


def _runs(post: Post) -> Iterator[str]:
    """Every text that a phrase of the post can have."""
    for words in _words(post):
        for start in range(len(words)):
            for end in range(start + 1, len(words) + 1):
                yield " ".join(words[start:end])


def _queries(image: Image, texts: set[str], chain: Chain) -> set[str]:
    name = keys.key("grounder", **chain.grounder.identity)
    return {grounding.row_key(grounding.Query(image, text), name) for text in texts}


def _merged(made: Made, post: Post, image: Image, chain: Chain) -> set[str]:
    """The queries that a merging grounder was asked: with each text those that were read with it, as parsed last."""
    if not chain.grounder.merges:
        return set()
    name = keys.key("grounder", **chain.grounder.identity)
    parsed = [phrase for one in made.phrases if one.post_id == post.id for phrase in one.phrases]
    kept = grounding.kept_phrases(parsed, chain.ground)
    asked = grounding.queries(post, made.posts.labels, kept, merged=True)
    return {grounding.row_key(query, name) for query in asked if query.image == image}


def _boxes(image: Image, index: int, asked: set[str], store: Store) -> set[Box]:
    """The boxes that the store holds for these queries."""
    held = sorted(asked - set(store.missing(sorted(asked))))
    corners = [(row["x0"], row["y0"], row["x1"], row["y1"]) for (row,) in store.get(held)]
    return {clip(one, image.width, image.height, index)[0] for one in corners}


def _crops(image: Image, boxes: set[Box], chain: Chain) -> set[str]:
    whole, name = Crop(image, Box(0, 0, image.width, image.height)), regions.net_key(chain.net)
    crops = [whole, *(Crop(image, box) for box in boxes)]
    found = {regions.row_key(crop, name, dtype) for crop in crops for dtype in DTYPES}
    return found | {regions.row_key(whole, regions.net_key(chain.net.for_grid()), regions_stage.GRID_DTYPE, "grid")}

"""Which rows of the store a dataset's posts need.

The stages' own functions are asked, so these keys are theirs by construction. What a stage needs follows from the rows
of the stage before: those are taken from the store where it holds them, else from the dataset's tables.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.store import Store
from cache.tables import Posts
from pipeline.chain import Chain
from pipeline.engine import Rows
from pipeline.grounding import extract as grounding
from pipeline.phrases import extract as parsing
from pipeline.regions import extract as regions
from pipeline.regions import grid
from schema.records import Grounded, Post, PostPhrases

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
            lambda some, rows: grid.extract_grids(some, chain.regions, chain.net, made.images, rows),
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

"""A dataset that went through all stages with fake parts, and the store that remembers its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cache.tables import Posts
from pipeline.feature_pipeline import Chain
from pipeline.grounding.config import GroundConfig
from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.parser import Parsed
from pipeline.regions.config import RegionsConfig
from pipeline.store_rows import Made, open_stores, wanted
from schema.records import Post
from tests.pipeline.drawn import LABELS, FakeGrounder, FakeNet, picture, post

NET = RegionsConfig(batch=4, workers=0, n_buckets=2)


class FakeParser:
    """Two noun phrases a sentence: its first two words, and all of it."""

    identity = {"name": "fake-parser", "version": "1"}  # noqa: RUF012
    label = "NP"

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        return [Parsed(((0, len(words), "NP"), (0, min(2, len(words)), self.label)), "") for words in sentences]


@dataclass
class Parts:
    """The parts of a chain, to be exchanged one by one."""

    phrases: PhrasesConfig = field(default_factory=PhrasesConfig)
    ground: GroundConfig = field(default_factory=GroundConfig)
    regions: RegionsConfig = NET
    parser: FakeParser = field(default_factory=FakeParser)
    grounder: FakeGrounder = field(default_factory=FakeGrounder)
    net: FakeNet = field(default_factory=FakeNet)

    def chain(self) -> Chain:
        return Chain(self.phrases, self.ground, self.regions, self.parser, self.grounder, self.net)


def four_posts(folder: Path) -> list[Post]:
    """`a` and `c` share a picture, `b` and `d` their words, `b` has a second picture, `d` has none."""
    a, b, e = (picture(folder, f"{name}.png", seed=seed) for seed, name in enumerate("abe"))
    return [
        post("a", a, words="Rita sings in Rome"),
        post("b", b, e, words="the old dog sleeps"),
        post("c", a, words="Omar was there"),
        post("d", words="the old dog sleeps"),
    ]


def made(folder: Path, posts: Sequence[Post], parts: Parts) -> Made:
    """The dataset without tables: what follows from the store alone."""
    return Made(Posts(list(posts), LABELS), [], [], folder, parts.chain)


def run_stages(one: Made, root: Path) -> Made:
    """Compute every row into the stores below `root`; returns the dataset with its tables."""
    with open_stores(root) as stores:
        results = [step.work(one.posts.posts, stores[step.store]) for step in wanted(one, stores)]
    return Made(one.posts, results[0], results[1], one.images, one.build)  # type: ignore[arg-type]


def all_keys(root: Path) -> set[str]:
    with open_stores(root) as stores:
        return set().union(*(store.keys() for store in stores.values()))

"""A dataset that went through all stages with fake parts, and the store that remembers its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cache.tables import Posts
from pipeline.feature_pipeline import FeaturePipeline
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.stage import ground_posts
from pipeline.maintenance import PreparedDataset, open_stores, steps
from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.parser import Parsed
from pipeline.phrases.stage import find_phrases
from pipeline.regions.config import RegionsConfig
from schema.records import Post
from tests.cache.rows import stored_keys
from tests.pipeline.drawn import LABELS, FakeGrounder, FakeNet, make_image, post

NET = RegionsConfig(batch=4, workers=0, n_buckets=2)


class FakeParser:
    """Two noun phrases a sentence: its first two words, and all of it."""

    identity = {"name": "fake-parser", "version": "1"}  # noqa: RUF012
    label = "NP"

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        return [Parsed(((0, len(words), "NP"), (0, min(2, len(words)), self.label)), "") for words in sentences]


@dataclass
class Parts:
    """Parts and settings of a pipeline, each replaceable."""

    phrases: PhrasesConfig = field(default_factory=PhrasesConfig)
    ground: GroundConfig = field(default_factory=GroundConfig)
    regions: RegionsConfig = NET
    parser: FakeParser = field(default_factory=FakeParser)
    grounder: FakeGrounder = field(default_factory=FakeGrounder)
    net: FakeNet = field(default_factory=FakeNet)

    def pipeline(self) -> FeaturePipeline:
        made = FeaturePipeline(self.phrases, self.ground, self.regions)
        vars(made).update(parser=self.parser, grounder=self.grounder, net=self.net)  # instead of opening them
        return made


def four_posts(folder: Path) -> list[Post]:
    """`a` and `c` share an image, `b` and `d` their words, `b` has a second image, `d` has none."""
    a, b, e = (make_image(folder, f"{name}.png", seed=seed) for seed, name in enumerate("abe"))
    return [
        post("a", a, words="Rita sings in Rome"),
        post("b", b, e, words="the old dog sleeps"),
        post("c", a, words="Omar was there"),
        post("d", words="the old dog sleeps"),
    ]


def prepared(folder: Path, posts: Sequence[Post], parts: Parts) -> PreparedDataset:
    """The dataset without tables: the store alone says what later stages need."""
    return PreparedDataset(Posts(list(posts), LABELS), [], {}, folder, parts.pipeline())


def run_stages(dataset: PreparedDataset, root: Path) -> PreparedDataset:
    """Compute every row into the stores below `root`; returns the dataset with its tables."""
    with open_stores(root) as stores:
        for step in steps(dataset, stores):
            store = stores[step.store]
            store.put(dict(step.compute({key: step.plan.items[key] for key in store.missing(step.plan.items)})))
    with open_stores(root) as stores:
        pipeline, posts = dataset.pipeline, dataset.posts.posts
        phrases, _ = find_phrases(posts, pipeline.phrases, pipeline.parser, stores["phrases"])
        boxes, _ = ground_posts(
            posts, phrases, LABELS, pipeline.ground, pipeline.grounder, dataset.images, stores["boxes"]
        )
    return replace(dataset, phrases=phrases, boxes=boxes)


def all_keys(root: Path) -> set[str]:
    return set(stored_keys(root))

"""A dataset in figures: posts and entities by split and type, orphan tags, images by their state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.corpus.variants import PAPER, PAPER_TYPES
from schema.labels import LabelSet, entities, n_orphans
from schema.records import SPLITS, Post

STATES = ("ok", "missing", "broken", "refused")
N_EXAMPLES = 5  # images listed for each state but ok


@dataclass
class SplitCounts:
    """Figures of one split. `images` counts an image as often as posts use it."""

    n_posts: int = 0
    n_words: int = 0
    n_unlabelled: int = 0  # posts without tags
    n_orphans: int = 0  # `I-` tags that continue no entity
    n_without_image: int = 0  # posts that name no image
    entities: Counter[str] = field(default_factory=Counter)  # type -> how many `B-`
    images: Counter[str] = field(default_factory=Counter)  # state -> how many

    def add(self, post: Post) -> None:
        self.n_posts += 1
        self.n_words += post.n_words
        self.n_unlabelled += post.tags is None
        self.n_orphans += n_orphans(post.tags or ())
        self.n_without_image += not post.images
        self.entities.update(entity.type for entity in entities(post.tags or ()))
        self.images.update(image.state for image in post.images)

    def to_json(self) -> dict[str, Any]:
        figures = ("n_posts", "n_words", "n_unlabelled", "n_orphans", "n_without_image")
        counters = {"entities": dict(sorted(self.entities.items())), "images": dict(sorted(self.images.items()))}
        return {name: getattr(self, name) for name in figures} | counters


@dataclass(frozen=True)
class Counts:
    """Figures of a dataset; `examples` names a few images of each bad state, with the reason."""

    splits: dict[str, SplitCounts]
    examples: dict[str, list[str]]
    n_images: int  # distinct images that are ok
    n_synthetic: int  # of these, how many the project drew

    @property
    def synthetic(self) -> bool:
        """Whether the project drew every image that is ok; false without images."""
        return 0 < self.n_images == self.n_synthetic

    def total(self, figure: str) -> int:
        return sum(getattr(split, figure) for split in self.splits.values())

    def add_orphans(self, by_split: Mapping[str, int]) -> None:
        """Add tags that continued no entity in a scheme which IOB2 cannot express."""
        for split, n in by_split.items():
            if n:
                self.splits[split].n_orphans += n

    def shown(self, state: str) -> str:
        """A few images of a bad state, with their reasons."""
        examples = self.examples[state]
        return "; ".join([*examples, *(["..."] if len(examples) == N_EXAMPLES < self.images(state) else [])])

    def images(self, state: str) -> int:
        return sum(split.images[state] for split in self.splits.values())

    def image_warning(self) -> str:
        """What to say loudly where most images that the posts name cannot be used; "" otherwise."""
        named, usable = sum(self.images(state) for state in STATES), self.images("ok")
        if 2 * usable >= named:
            return ""
        bad = ", ".join(f"{self.images(state)} {state}" for state in STATES[1:] if self.images(state))
        return f"{named - usable} of {named} images cannot be used ({bad}): the model reads an empty image instead"

    def to_json(self) -> dict[str, Any]:
        return {name: split.to_json() for name, split in self.splits.items()}


def count(posts: Iterable[Post]) -> Counts:
    """Count posts while they are read."""
    splits: dict[str, SplitCounts] = {}
    examples: dict[str, list[str]] = {state: [] for state in STATES[1:]}
    synthetic: dict[str, bool] = {}
    listed: set[str] = set()  # an image is listed once, however many posts have it
    for post in posts:
        splits.setdefault(post.split, SplitCounts()).add(post)
        for image in post.images:
            if image.ok:
                synthetic[image.name] = image.synthetic
            elif len(examples[image.state]) < N_EXAMPLES and image.name not in listed:
                listed.add(image.name)
                examples[image.state].append(f"{image.name}: {image.reason}")
    ordered: dict[str, SplitCounts] = {name: splits[name] for name in SPLITS if name in splits}
    return Counts(ordered, examples, len(synthetic), sum(synthetic.values()))


def rows(counts: Counts, labels: LabelSet, corpus: str = "") -> list[tuple[str, ...]]:
    """A table like the paper's Table 1, heading first: a line per type, then totals, posts, peculiarities and images.

    With a corpus of the paper's each figure that the paper gives stands beside ours, as `6166 (6176)`.
    """
    paper = PAPER.get(corpus, {})
    names = list(counts.splits)
    order = (*PAPER_TYPES, "Total", "Posts")

    def line(title: str, figures: list[int], key: str = "") -> tuple[str, ...]:
        theirs = [paper[name][order.index(key)] if key in order and name in paper else None for name in names]
        return title, *(f"{n}" if p is None else f"{n} ({p})" for n, p in zip(figures, theirs, strict=True))

    splits = list(counts.splits.values())
    head = ("entities" + (" (in the paper)" if paper else ""), *names)
    types = [line(f"{t} {labels.words[t]}", [split.entities[t] for split in splits], t) for t in labels.types]
    total = line("total", [split.entities.total() for split in splits], "Total")
    posts = line("posts", [split.n_posts for split in splits], "Posts")
    others = [("words", "n_words"), ("orphan I- tags", "n_orphans"), ("posts without labels", "n_unlabelled")]
    more = [line(title, [getattr(split, name) for split in splits]) for title, name in others]
    images = [line(f"images {state}", [split.images[state] for split in splits]) for state in STATES]
    none = line("posts that name no image", [split.n_without_image for split in splits])
    return [head, *types, total, posts, *more, *images, none]

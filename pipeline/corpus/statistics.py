"""A dataset in figures: posts and entities by split and type, orphan tags, images by their state."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.corpus.variants import PAPER, PAPER_TYPES
from schema.labels import LabelSet, entities, orphans
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
    entities: Counter[str] = field(default_factory=Counter)  # by type
    images: Counter[str] = field(default_factory=Counter)  # by state

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {name: dict(sorted(getattr(self, name).items())) for name in ("entities", "images")}


@dataclass(frozen=True)
class Counts:
    """Figures of a dataset; `examples` names a few images of each bad state, with the reason."""

    splits: dict[str, SplitCounts]
    examples: dict[str, list[str]]
    n_images: int  # distinct images that are ok
    n_synthetic: int  # of these, how many the project drew

    @property
    def synthetic(self) -> bool:
        """Whether the project drew every image that is ok."""
        return 0 < self.n_images == self.n_synthetic

    def total(self, figure: str) -> int:
        return sum(getattr(split, figure) for split in self.splits.values())

    def images(self, state: str) -> int:
        return sum(split.images[state] for split in self.splits.values())

    def image_warning(self) -> str:
        """A warning where most images that the posts name cannot be used; "" otherwise."""
        named, usable = sum(self.images(state) for state in STATES), self.images("ok")
        if 2 * usable >= named:
            return ""
        bad = ", ".join(f"{self.images(state)} {state}" for state in STATES[1:] if self.images(state))
        return f"{named - usable} of {named} images cannot be used ({bad}): the model reads an empty image instead"

    def to_json(self) -> dict[str, Any]:
        return {name: split.to_json() for name, split in self.splits.items()}


def count(posts: Iterable[Post]) -> Counts:
    splits: dict[str, SplitCounts] = {}
    bad: dict[str, dict[str, str]] = {state: {} for state in STATES[1:]}  # an image is listed once
    synthetic: dict[str, bool] = {}
    for post in posts:
        split = splits.setdefault(post.split, SplitCounts())
        split.n_posts += 1
        split.n_words += post.n_words
        split.n_unlabelled += post.tags is None
        split.n_orphans += sum(orphans(post.tags or ()))
        split.n_without_image += not post.images
        split.entities.update(entity.type for entity in entities(post.tags or ()))
        split.images.update(image.state for image in post.images)
        for image in post.images:
            if image.ok:
                synthetic[image.name] = image.synthetic
            elif len(bad[image.state]) < N_EXAMPLES:
                bad[image.state][image.name] = f"{image.name}: {image.reason}"
    ordered: dict[str, SplitCounts] = {name: splits[name] for name in SPLITS if name in splits}
    examples = {state: list(images.values()) for state, images in bad.items()}
    return Counts(ordered, examples, len(synthetic), sum(synthetic.values()))


def rows(counts: Counts, labels: LabelSet, corpus: str = "") -> list[tuple[str, ...]]:
    """A table like the paper's Table 1, heading first; for the paper's corpora with its figures: `6166 (6176)`."""
    paper, splits = PAPER.get(corpus, {}), counts.splits
    order = (*PAPER_TYPES, "Total", "Posts")

    def line(title: str, figures: list[int], key: str = "") -> tuple[str, ...]:
        theirs = [paper[name][order.index(key)] if key in order and name in paper else None for name in splits]
        return title, *(f"{n}" if p is None else f"{n} ({p})" for n, p in zip(figures, theirs, strict=True))

    shown = splits.values()
    return [
        ("entities" + (" (in the paper)" if paper else ""), *splits),
        *(
            line(f"{name} {word}", [split.entities[name] for split in shown], name)
            for name, word in labels.words.items()
        ),
        line("total", [split.entities.total() for split in shown], "Total"),
        line("posts", [split.n_posts for split in shown], "Posts"),
        line("words", [split.n_words for split in shown]),
        line("orphan I- tags", [split.n_orphans for split in shown]),
        line("posts without labels", [split.n_unlabelled for split in shown]),
        *(line(f"images {state}", [split.images[state] for split in shown]) for state in STATES),
        line("posts that name no image", [split.n_without_image for split in shown]),
    ]

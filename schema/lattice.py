"""The objects of a post's lattice: their positions, the cap on their number, and what the cap cuts."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Self

from schema.errors import DataError
from schema.records import Post, Source, Span

PRIORITY: dict[Source, int] = {"image": 0, "phrase": 1, "general": 2}  # the last are cut first


def object_span(span: Span | None, n_words: int) -> tuple[int, int]:
    """(head, tail) of an object: positions of its phrase's first and last word; None: of all words."""
    if span is None:
        return 1, n_words
    if span.end > n_words:
        raise DataError("an object's phrase has words that the post does not have", found=f"{span} of {n_words} words")
    return span.start + 1, span.end  # position 0 is [CLS]


def within_cap(sources: Sequence[Source], max_objects: int) -> list[int]:
    """Indices of the objects that a cap keeps, ascending: whole images before phrases, phrases before general words."""
    by_priority = sorted(range(len(sources)), key=lambda index: PRIORITY[sources[index]])
    return sorted(by_priority[:max_objects])


@dataclass(frozen=True)
class CutObjects:
    """How many objects, of how many posts, are left out of the lattice; `n_phrases` of them are phrases."""

    n_posts: int = 0
    n_objects: int = 0
    n_phrases: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*map(operator.add, astuple(self), astuple(other)))

    @classmethod
    def of_post(cls, sources: Sequence[Source]) -> Self:
        """The count for one post from the sources of its cut objects."""
        return cls(int(bool(sources)), len(sources), sources.count("phrase"))

    def message(self) -> str:
        return f"{self.n_objects} object(s) of {self.n_posts} post(s), {self.n_phrases} of them phrases"


@dataclass
class CapCounter:
    """Counts what `train.max_objects` cuts, post by post, without features."""

    max_objects: int
    n_general_words: int
    n_phrases: Mapping[str, int] | None  # by post id; None before the phrases stage has run
    cut: CutObjects = CutObjects()

    def add(self, post: Post) -> None:
        n_images = sum(image.ok for image in post.images)
        sources: list[Source] = ["image"]
        if n_images:
            sources += ["general"] * self.n_general_words
            sources = sources * n_images + ["phrase"] * (self.n_phrases or {}).get(post.id, 0)
        kept = set(within_cap(sources, self.max_objects))
        self.cut += CutObjects.of_post([source for index, source in enumerate(sources) if index not in kept])

    def message(self) -> str:
        """What is cut; "" for nothing."""
        if not self.cut.n_objects:
            return ""
        unknown = " (phrases are counted after their stage has run)" if self.n_phrases is None else ""
        return f"train.max_objects {self.max_objects} cuts {self.cut.message()}{unknown}"

"""The records of the pipeline: frozen values that check themselves once, so that other code does not have to."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from schema.errors import DataError

Split = Literal["train", "dev", "test", "predict"]  # predict: posts without a split
Source = Literal["image", "general", "phrase"]  # in the order of a post's objects
ImageState = Literal["ok", "missing", "broken", "refused"]

SPLITS: tuple[Split, ...] = get_args(Split)
SOURCES: tuple[Source, ...] = get_args(Source)
CORNERS = ("x0", "y0", "x1", "y1")
POST_ID = re.compile(r"[^\x00-\x1f\x7f/\\]{1,200}")  # no separators: an id never becomes a path by accident


@dataclass(frozen=True, order=True, slots=True)
class Span:
    """Words `[start, end)`, 0-based."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise DataError("a span needs 0 <= start < end", found=f"[{self.start}, {self.end})")

    def overlaps(self, other: Self) -> bool:
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True, order=True, slots=True)
class Entity:
    span: Span
    type: str


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels `[x0, x1) x [y0, y1)` of image `image_index` of a post, after EXIF rotation."""

    x0: int
    y0: int
    x1: int
    y1: int
    image_index: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.x0 < self.x1 and 0 <= self.y0 < self.y1 and self.image_index >= 0):
            raise DataError("a box needs 0 <= x0 < x1 and 0 <= y0 < y1", found=str(self.xyxy))

    @property
    def xyxy(self) -> tuple[int, int, int, int]:
        return self.x0, self.y0, self.x1, self.y1


@dataclass(frozen=True, slots=True)
class Image:
    name: str  # relative to the dataset's image folder
    digest: str = ""  # sha256 of the file's bytes; "" without a file
    width: int = 0  # pixels after EXIF rotation; 0 unless `state` is "ok"
    height: int = 0
    state: ImageState = "ok"
    reason: str = ""  # of a state other than "ok"
    synthetic: bool = False  # drawn by this project

    @property
    def ok(self) -> bool:
        return self.state == "ok"


@dataclass(frozen=True, slots=True)
class Post:
    """A post: at least one word, optional tags (IOB2, one per word), text with character offsets, images."""

    id: str
    split: Split
    words: tuple[str, ...]
    text: str
    offsets: tuple[tuple[int, int], ...]  # [start, end) characters of `text`, one per word
    tags: tuple[str, ...] | None = None
    images: tuple[Image, ...] = ()
    source_id: str | None = None  # the id in the data; None if it is `id`

    def __post_init__(self) -> None:
        if not POST_ID.fullmatch(self.id) or self.id in (".", ".."):
            what = "a post id needs 1 to 200 characters, without slashes and control characters"
            raise DataError(what, found=repr(self.id))
        if self.split not in SPLITS:
            raise DataError(f"post {self.id}: unknown split", found=self.split, todo=f"use one of {', '.join(SPLITS)}")
        if not self.words or "" in self.words:
            raise DataError(f"post {self.id}: a post needs at least one word, and no empty one")
        for name, values in (("offsets", self.offsets), ("tags", self.tags)):
            if values is not None and len(values) != len(self.words):
                raise DataError(f"post {self.id}: {len(self.words)} words but {len(values)} {name}")
        for word, (start, end) in zip(self.words, self.offsets, strict=True):
            if self.text[start:end] != word:
                raise DataError(f"post {self.id}: offsets [{start}, {end}) do not hold {word!r}")

    @property
    def n_words(self) -> int:
        return len(self.words)

    def characters(self, span: Span) -> tuple[int, int]:
        """Character range `[start, end)` of a span in `text`; raises DataError for a span beyond the words."""
        if span.end > self.n_words:
            what = f"post {self.id}: a span beyond the {self.n_words} words"
            raise DataError(what, found=f"[{span.start}, {span.end})")
        return self.offsets[span.start][0], self.offsets[span.end - 1][1]


def joined(words: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Text and offsets of words joined by single spaces, for posts without raw text."""
    offsets, start = [], 0
    for word in words:
        offsets.append((start, start + len(word)))
        start += len(word) + 1
    return " ".join(words), tuple(offsets)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase: its words, their text, and the parser's label."""

    span: Span
    text: str
    label: str = "NP"


@dataclass(frozen=True, slots=True)
class PostPhrases:
    """A post's noun phrases, ordered by (start, end), unique; `fallback`: how they were found if parsing failed."""

    post_id: str
    phrases: tuple[Phrase, ...]
    fallback: str = ""
    n_cut: int = 0  # phrases beyond the cap

    def __post_init__(self) -> None:
        spans = [phrase.span for phrase in self.phrases]
        if spans != sorted(set(spans)):
            raise DataError(f"post {self.post_id}: phrases must be unique and ordered by (start, end)")


@dataclass(frozen=True, slots=True)
class Region:
    """An object of the lattice: the part of an image that is cropped, and the words it belongs to."""

    source: Source
    text: str
    span: Span | None  # None: all words
    box: Box | None  # None: the uniform empty image, which stands for a post without an image
    score: float
    clamped: bool = field(default=False, compare=False)  # the grounder's box extended beyond the image
    grounder: str = field(default="", compare=False)  # name@weights, or name@version; as `clamped` not in packs

    @property
    def image_index(self) -> int:
        return self.box.image_index if self.box else 0

    def to_json(self) -> dict[str, Any]:
        """The form in predictions and in boxes.parquet: named values, None if there is no span or box."""
        span = {name: getattr(self.span, name, None) for name in ("start", "end")}
        box = {name: getattr(self.box, name, None) for name in ("image_index", *CORNERS)}
        return {"source": self.source, "text": self.text, **span, **box, "score": self.score}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises DataError for an unknown source or a score that is not finite."""
        score, span, box = float(value["score"]), None, None
        if value["source"] not in SOURCES or not math.isfinite(score):
            raise DataError("an object needs a known source and a finite score", found=f"{value['source']}, {score}")
        if value["start"] is not None:
            span = Span(int(value["start"]), int(value["end"]))
        if value["x0"] is not None:
            box = Box(*(int(value[name]) for name in (*CORNERS, "image_index")))
        return cls(value["source"], str(value["text"]), span, box, score)

    def to_list(self) -> list[Any]:
        """The form in packs: [source, text, [start, end], [x0, y0, x1, y1, image_index], score]; -1 for no number."""
        span, box = self.span, self.box
        corners = [*box.xyxy, box.image_index] if box else [-1] * 5
        return [self.source, self.text, [span.start, span.end] if span else [-1, -1], corners, float(self.score)]

    @classmethod
    def from_list(cls, source: Source, text: str, span: Sequence[int], box: Sequence[int], score: float) -> Self:
        return cls(source, text, None if span[0] < 0 else Span(*span), None if box[4] < 0 else Box(*box), score)

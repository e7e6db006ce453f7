"""Posts as the JSON that a page's script draws (safe text, a byte budget), and the choice of posts for a page."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from report.errors import KINDS, MEANINGS, TITLES, outcomes
from report.pages import redacted, safe_text, safe_word, script_json
from report.thumbnails import Loader, Thumbnails
from schema.prediction import Prediction
from schema.records import Entity, Image, Post, Region

N_SAMPLE = 400  # posts without errors on a page: enough to see what goes well
TEXT_BUDGET = 5_000_000  # bytes of a page's posts without their images
IMAGE_BYTES = 500  # upper bound of an image's description
NAME_CHARS = 60  # of an image's file name


@dataclass(frozen=True, slots=True)
class Selection:
    """The posts that a page shows, in their order, and how many there are with errors and without."""

    predictions: tuple[Prediction, ...]
    n_wrong: int
    n_wrong_shown: int
    n_other: int
    n_other_shown: int


def is_wrong(prediction: Prediction) -> bool:
    """Whether the outcome of a gold or predicted entity of the post is not "correct"."""
    gold = prediction.gold
    return gold is not None and any(one.kind != "correct" for one in outcomes(gold, prediction.predicted))


def select(splits: Mapping[str, Sequence[Prediction]], cap: int, n_sample: int = N_SAMPLE) -> Selection:
    """At most `cap` posts with errors, and `n_sample` others (more if fewer than `cap` have errors)."""
    posts = [one for predictions in splits.values() for one in predictions]
    ids = [one.post.id for one in posts]
    wrong = [index for index, one in enumerate(posts) if is_wrong(one)]
    other = sorted(set(range(len(posts))) - set(wrong))
    wrong_shown = sample(ids, wrong, cap)
    other_shown = sample(ids, other, max(min(n_sample, cap), cap - len(wrong_shown)))
    shown = tuple(posts[index] for index in sorted([*wrong_shown, *other_shown]))
    return Selection(shown, len(wrong), len(wrong_shown), len(other), len(other_shown))


def sample(ids: Sequence[str], indices: Sequence[int], n: int) -> list[int]:
    """At most `n` of `indices` (into `ids`), ascending: those with the smallest digests of ids, the same every time."""
    if len(indices) <= n:
        return list(indices)
    return sorted(sorted(indices, key=lambda index: hashlib.sha256(ids[index].encode("utf-8", "replace")).digest())[:n])


@dataclass
class PostData:
    """The posts of a page as they are added; `n_left_out` exceeded the budget.

    `general` maps general words to entity types. `judge` compares gold and predicted entities.
    """

    types: Sequence[str]
    general: Mapping[str, str]
    thumbnails: Thumbnails
    redact: bool = False
    judge: bool = True
    budget: int = TEXT_BUDGET
    posts: list[dict[str, Any]] = field(default_factory=list)
    n_left_out: int = 0

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Add posts within the budget; one that is too large does not stop the others."""
        for prediction in predictions:
            images = prediction.post.images
            post = self._post(prediction)
            n_bytes = len(script_json(post).encode("utf-8")) + IMAGE_BYTES * len(images)
            if n_bytes > self.budget:
                self.n_left_out += 1
                continue
            self.budget -= n_bytes
            self.posts.append({**post, "images": [self._image(image) for image in images]})

    def to_json(self) -> dict[str, Any]:
        """The page's data: names that posts refer to by index, the posts, and the thumbnails."""
        return {
            "types": [safe_text(name, NAME_CHARS) for name in self.types],
            "kinds": [{"name": kind, "title": TITLES[kind], "meaning": MEANINGS[kind]} for kind in KINDS],
            "redacted": self.redact,
            "posts": self.posts,
            "thumbnails": self.thumbnails.uris,
        }

    def _post(self, prediction: Prediction) -> dict[str, Any]:
        post, gold = prediction.post, prediction.gold
        words = redacted(post.words) if self.redact else post.words
        judged = outcomes(gold, prediction.predicted) if self.judge and gold is not None else []
        drawn = [region for region in prediction.objects if region.box and region.source != "image"]
        return {
            "id": safe_text(post.id),
            "split": post.split,
            "words": [safe_word(word) for word in words],
            "gold": None if gold is None else [self._entity(entity) for entity in gold],
            "predicted": [[*self._entity(one.entity), _rounded(one.confidence)] for one in prediction.entities],
            "outcomes": [[KINDS.index(one.kind), _index(one.gold), _index(one.predicted)] for one in judged],
            "boxes": [self._box(region, words) for region in drawn],
        }

    def _entity(self, entity: Entity) -> list[int]:
        return [entity.span.start, entity.span.end, self.types.index(entity.type)]

    def _box(self, region: Region, words: Sequence[str]) -> list[Any]:
        """[text, start, end (-1: all words), type (-1: none), image, x0, y0, x1, y1, score]."""
        span, box, text = region.span, region.box, region.text
        assert box is not None
        if span:
            text = " ".join(words[span.start : span.end])
        elif self.redact:
            text = " ".join(redacted(text.split()))
        name = self.general.get(region.text) if region.source == "general" else None
        position = [span.start, span.end] if span else [-1, -1]
        type_index = self.types.index(name) if name in self.types else -1
        return [safe_text(text, 120), *position, type_index, box.image_index, *box.xyxy, _rounded(region.score)]

    def _image(self, image: Image) -> dict[str, Any]:
        thumbnail = self.thumbnails.index(image.name, image.digest) if image.ok and not self.redact else None
        return {
            "thumbnail": _index(thumbnail),
            "width": image.width,
            "height": image.height,
            "state": safe_text(image.state, NAME_CHARS),
            "name": "" if self.redact else safe_text(image.name, NAME_CHARS),
        }


def post_data(
    predictions: Sequence[Prediction],
    words: Mapping[str, str],
    load_image: Loader,
    *,
    types: Sequence[str] | None = None,
    redact: bool = False,
    judge: bool = True,
) -> PostData:
    """The data of a page with these posts; `words` maps types to general words, `types` may name more than those."""
    if types is None:
        types = tuple(dict.fromkeys([*words, *(entity.type for one in predictions for entity in one.gold or ())]))
    general = {word: name for name, word in words.items()}
    data = PostData(types, general, Thumbnails(load_image, n_images(predictions)), redact, judge)
    data.add(predictions)
    return data


def without_predictions(post: Post, regions: Iterable[Region]) -> Prediction:
    """A post with its gold entities and boxes, for pages about data."""
    n_images = len(post.images)
    return Prediction(post, (), tuple(region for region in regions if region.box and region.image_index < n_images))


def n_images(predictions: Iterable[Prediction]) -> int:
    """How many distinct images the posts have."""
    images = (image for one in predictions for image in one.post.images if image.ok)
    return len({image.digest or image.name for image in images})


def _index(value: int | None) -> int:
    return -1 if value is None else value


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

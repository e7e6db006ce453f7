"""What a smoke shard's images show, and the highest F1 that any predictor can expect on it; no stage reads this.

The types of a post's names are distinct and, by the symmetry of synthetic.posts, each assignment that agrees with
what can be seen is equally likely. So a name without evidence has each type that no other name of its post shows with
equal probability. Spans are never in doubt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from pydantic import TypeAdapter

from schema.errors import DataError
from schema.records import Box, Span, Split
from synthetic.posts import TYPES, Draft, Image
from synthetic.scenes import Scene

FILE = "gold.jsonl"


@dataclass(frozen=True, slots=True)
class GoldThing:
    """A thing of an image: its pixels, kind, and the cue that is true of no other thing (None: there is none).

    For a name: its words, its phrase's words and its type; `noun` decides the type where it is not "". A thing that is
    no entity has a phrase if the post mentions it, and never a type.
    """

    kind: str
    cue: str | None
    box: Box
    phrase: Span | None = None
    span: Span | None = None
    type: str = ""
    noun: str = ""


@dataclass(frozen=True, slots=True)
class GoldPost:
    """Names and other things of a post; those of a missing or broken image cannot be seen."""

    id: str
    split: Split
    image: Image
    names: tuple[GoldThing, ...]
    others: tuple[GoldThing, ...]


def gold(draft: Draft, scene: Scene) -> GoldPost:
    """The gold of a post drawn as this scene."""
    things = scene.things
    names = tuple(
        GoldThing(thing.kind, thing.cue, thing.box, name.phrase, name.span, name.type, name.noun)
        for name, thing in zip(draft.mentions, things, strict=False)
    )
    phrases = [draft.thing_span, *[None] * len(things)]  # only the first of the other things may be mentioned
    others = tuple(
        GoldThing(thing.kind, thing.cue, thing.box, phrase)
        for phrase, thing in zip(phrases, things[len(names) :], strict=False)
    )
    return GoldPost(draft.id, draft.split, draft.image, names, others)


def lines(posts: Iterable[GoldPost]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(asdict(post), sort_keys=True) + "\n" for post in posts)


def read_gold(folder: Path) -> dict[str, GoldPost]:
    """Gold of a drawn dataset's folder by post id; raises DataError where it is missing or damaged."""
    path = folder / FILE
    try:
        rows = path.read_bytes().splitlines()
    except OSError:
        raise DataError("no gold", where=str(path), todo="only drawn datasets have it: fmit draw") from None
    adapter, posts = TypeAdapter(GoldPost), {}
    for number, row in enumerate(rows, 1):
        try:
            post = adapter.validate_json(row)
        except (ValueError, DataError) as error:
            found = str(error).splitlines()[0]
            todo = "draw it again: fmit draw"
            raise DataError("not a line of gold", where=f"{path}:{number}", found=found, todo=todo) from None
        posts[post.id] = post
    return posts


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Highest expected strict micro-F1 for predictors that read the posts' text, and with their images."""

    text: float
    images: float


def ceilings(drafts: Iterable[Draft]) -> Ceilings:
    """Both ceilings of some posts."""
    listed = list(drafts)
    text, both = ([one for draft in listed for one in chances(draft, images=images)] for images in (False, True))
    return Ceilings(float(best_f1(text)), float(best_f1(both)))


def chances(draft: Draft, *, images: bool) -> list[Fraction]:
    """For each name of a post, the probability of its most likely type."""
    visible = images and draft.image == "ok"
    certain = [bool(mention.noun) or visible for mention in draft.mentions]
    return [Fraction(1) if one else Fraction(1, len(TYPES) - sum(certain)) for one in certain]


def best_f1(each: Sequence[Fraction]) -> Fraction:
    """Highest expected F1 where `each` name is right with its probability and may be left out.

    Gold entities number G = len(each). Predicting a set S gives 2 sum_S(probability) / (|S| + G) in expectation,
    exactly, since G and |S| are fixed; the best S of each size has the most certain names.
    """
    right, best = Fraction(0), Fraction(0)
    for n_predicted, chance in enumerate(sorted(each, reverse=True), start=1):
        right += chance
        best = max(best, 2 * right / (n_predicted + len(each)))
    return best

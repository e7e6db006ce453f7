"""What a smoke shard's images show, for measuring the parts of the way; no stage of the pipeline reads it.

What the best predictor can reach on a smoke shard, from the shard's own distribution: exact, no model involved.

Types of a post's names are distinct and, by the symmetry of synthetic.posts, each assignment that agrees with
what is seen is equally likely. So a name whose type nothing tells has each type that no other told name of its post
has with the same chance. Spans are never in doubt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from schema.errors import DataError
from schema.records import Box, Span, Split
from synthetic.posts import TYPES, Draft, Image
from synthetic.scenes import Scene

FILE = "gold.jsonl"


@dataclass(frozen=True, slots=True)
class GoldThing:
    """A thing of an image: pixels, kind, and the cue that is true of it alone (None: nothing tells it apart).

    For a name: its words, its phrase's words and its type; `noun` decides the type where it is not "". A thing that is
    no entity has a phrase if the post speaks of it, and never a type.
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
    """Names and other things of a post; of an image that is missing or broken nobody can see them."""

    id: str
    split: Split
    image: Image
    names: tuple[GoldThing, ...]
    others: tuple[GoldThing, ...]


def gold(draft: Draft, scene: Scene) -> GoldPost:
    """The gold of a post drawn as this scene."""
    n_names = len(draft.mentions)
    names = tuple(
        GoldThing(thing.kind, thing.cue, thing.box, said.phrase, said.span, said.type, said.noun)
        for said, thing in zip(draft.mentions, scene.things, strict=False)
    )
    spoken = [draft.thing_span] if draft.thing_span else []
    phrases = [*spoken, *[None] * len(scene.things)]
    others = tuple(
        GoldThing(thing.kind, thing.cue, thing.box, phrase)
        for phrase, thing in zip(phrases, scene.things[n_names:], strict=False)
    )
    return GoldPost(draft.id, draft.split, draft.image, names, others)


def lines(posts: Iterable[GoldPost]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(asdict(post), sort_keys=True) + "\n" for post in posts)


def read_gold(folder: Path) -> dict[str, GoldPost]:
    """Gold of a drawn dataset's folder by post id; raises DataError where there is none, or a line is not as drawn."""
    path = folder / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise DataError("no gold", where=str(path), todo="only drawn datasets have it: fmit draw") from None
    except UnicodeDecodeError as error:
        raise DataError("damaged gold", where=str(path), found=str(error), todo="draw it again: fmit draw") from None
    posts = [_post(line, f"{path}:{number}") for number, line in enumerate(text.splitlines(), 1)]
    return {post.id: post for post in posts}


def _post(line: str, where: str) -> GoldPost:
    try:
        row = json.loads(line)
        names, others = (tuple(_thing(thing) for thing in row[key]) for key in ("names", "others"))
        return GoldPost(row["id"], row["split"], row["image"], names, others)
    except (ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise DataError("no line of gold", where=where, found=found, todo="draw it again: fmit draw") from None


def _thing(row: dict) -> GoldThing:
    spans = {name: Span(**row[name]) if row[name] else None for name in ("phrase", "span")}
    return GoldThing(**{**row, **spans, "box": Box(**row["box"])})


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Highest expected strict micro-F1, for predictors that read posts alone, and with their images."""

    text: float
    images: float


def ceilings(drafts: Iterable[Draft]) -> Ceilings:
    """Both ceilings of some posts."""
    listed = list(drafts)
    alone = [chance for draft in listed for chance in chances(draft, images=False)]
    both = [chance for draft in listed for chance in chances(draft, images=True)]
    return Ceilings(float(best_f1(alone)), float(best_f1(both)))


def chances(draft: Draft, *, images: bool) -> list[Fraction]:
    """For each name of a post, the probability of its most likely type."""
    seen = images and draft.image == "ok"
    told = [bool(mention.noun) or seen for mention in draft.mentions]
    return [Fraction(1, 1 if known else len(TYPES) - sum(told)) for known in told]


def best_f1(each: Sequence[Fraction]) -> Fraction:
    """Highest expected F1 where `each` name is right with its chance and may be left out.

    Gold entities number G = len(each). Predicting a set S gives 2 sum_S(chance) / (|S| + G) in expectation, exactly,
    since G and |S| are fixed; the best S of each size holds the most certain names.
    """
    right, best = Fraction(0), Fraction(0)
    for n_predicted, chance in enumerate(sorted(each, reverse=True), start=1):
        right += chance
        best = max(best, 2 * right / (n_predicted + len(each)))
    return best

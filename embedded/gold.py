"""What a smoke shard's pictures show, for measuring the parts of the way; no stage of the pipeline reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from embedded.posts import Draft, Picture
from embedded.scenes import Scene
from schema.errors import DataError
from schema.records import Box, Span, Split

FILE = "gold.jsonl"


@dataclass(frozen=True, slots=True)
class GoldThing:
    """A thing of a picture: pixels, kind, and the cue that is true of it alone (None: nothing tells it apart).

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
    """Names and other things of a post; of a picture that is missing or broken nobody can see them."""

    id: str
    split: Split
    picture: Picture
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
    return GoldPost(draft.id, draft.split, draft.picture, names, others)


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
        return GoldPost(row["id"], row["split"], row["picture"], names, others)
    except (ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise DataError("no line of gold", where=where, found=found, todo="draw it again: fmit draw") from None


def _thing(row: dict) -> GoldThing:
    spans = {name: Span(**row[name]) if row[name] else None for name in ("phrase", "span")}
    return GoldThing(**{**row, **spans, "box": Box(**row["box"])})

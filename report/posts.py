"""Posts as the data block of a page: what its script draws, safe, perhaps redacted, within a budget of bytes.

Which posts a page shows: all with errors up to a cap, and a sample of the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from report.errors import KINDS, MEANINGS, TITLES, outcomes
from report.pages import redacted, safe_text, safe_word, script_json
from report.runs import Line, Picture, Thing
from report.thumbnails import Album
from schema.labels import entities
from schema.records import Entity, Grounded, Post, Span

N_SAMPLE = 400  # posts without errors: enough to see what goes well, few enough to scroll


@dataclass(frozen=True, slots=True)
class Chosen:
    """Posts to show, in their files' order, and of how many with errors and without they are taken."""

    lines: tuple[Line, ...]
    n_wrong: int
    n_wrong_shown: int
    n_rest: int
    n_rest_shown: int


def is_wrong(line: Line) -> bool:
    """Whether some gold entity or prediction of the post has another outcome than "correct"."""
    return line.gold is not None and any(found.kind != "correct" for found in outcomes(line.gold, line.entities))


def choose(lines: Mapping[str, Sequence[Line]], cap: int, n_sample: int = N_SAMPLE) -> Chosen:
    """At most `cap` posts with errors, and of the rest a sample of `n_sample` (`cap`, if less), or more while `cap`
    has room.

    Where there are more than fit, the digests of ids decide: the same posts each time, and no preference for any place.
    """
    posts = [line for split in lines.values() for line in split]
    ids = [line.id for line in posts]
    wrong = [index for index, line in enumerate(posts) if is_wrong(line)]
    rest = sorted(set(range(len(posts))) - set(wrong))
    shown_wrong = drawn(ids, wrong, cap)
    shown_rest = drawn(ids, rest, max(min(n_sample, cap), cap - len(shown_wrong)))
    shown = tuple(posts[index] for index in sorted([*shown_wrong, *shown_rest]))
    return Chosen(shown, len(wrong), len(shown_wrong), len(rest), len(shown_rest))


def drawn(ids: Sequence[str], places: Sequence[int], n: int) -> list[int]:
    """At most `n` of `places` (indices into `ids`), ascending, by the digests of their ids."""
    if len(places) <= n:
        return list(places)
    return sorted(sorted(places, key=lambda at: hashlib.sha256(ids[at].encode("utf-8", "replace")).digest())[:n])


TEXT_BUDGET = 5_000_000  # bytes of a page's posts, pictures apart
PICTURE_BYTES = 500  # at most, of what is said of a picture
NAME_CHARS = 60  # of a picture's file name


@dataclass
class Posts:
    """Posts of a page as they are added: `data` is what the page carries, `n_left_out` had no room."""

    types: Sequence[str]
    general: dict[str, str]  # general word -> entity type
    album: Album
    redact: bool = False
    judge: bool = True  # compare gold and predicted; without predictions there is nothing to judge
    budget: int = TEXT_BUDGET
    shown: list[dict[str, Any]] = field(default_factory=list)
    n_left_out: int = 0

    def add(self, lines: Iterable[Line]) -> None:
        """Add posts while there is room; one that is too large alone leaves room for others."""
        for line in lines:
            post = self._post(line)
            n_bytes = len(script_json(post).encode("utf-8")) + PICTURE_BYTES * len(line.pictures)
            if n_bytes > self.budget:
                self.n_left_out += 1
                continue
            self.budget -= n_bytes
            post["pictures"] = [self._picture(picture) for picture in line.pictures]
            self.shown.append(post)

    def data(self) -> dict[str, Any]:
        """The data block: tables of names once, then the posts, then the pictures."""
        return {
            "types": [safe_text(name, NAME_CHARS) for name in self.types],
            "kinds": [{"name": kind, "title": TITLES[kind], "meaning": MEANINGS[kind]} for kind in KINDS],
            "redacted": self.redact,
            "posts": self.shown,
            "thumbs": self.album.uris,
        }

    def _post(self, line: Line) -> dict[str, Any]:
        words = redacted(line.words) if self.redact else line.words
        found = outcomes(line.gold, line.entities) if self.judge and line.gold is not None else []
        return {
            "id": safe_text(line.id),
            "split": line.split,
            "words": [safe_word(word) for word in words],
            "gold": None if line.gold is None else [self._entity(entity) for entity in line.gold],
            "predicted": [[*self._entity(one.entity), _short(one.confidence)] for one in line.predicted],
            "outcomes": [[KINDS.index(one.kind), _index(one.gold), _index(one.predicted)] for one in found],
            "boxes": [self._box(thing, words) for thing in line.things if thing.xyxy and thing.source != "image"],
        }

    def _entity(self, entity: Entity) -> list[int]:
        return [entity.span.start, entity.span.end, self.types.index(entity.type)]

    def _box(self, thing: Thing, words: Sequence[str]) -> list[Any]:
        """[text, start, end (-1: all words), type (-1: none), picture, x0, y0, x1, y1, score]."""
        span = thing.span or Span(0, len(words))
        text = " ".join(words[span.start : span.end]) if thing.span else _redacted(thing.text, self.redact)
        kind = self.general.get(thing.text) if thing.source == "general" else None
        place = [span.start, span.end] if thing.span else [-1, -1]
        type_index = self.types.index(kind) if kind in self.types else -1
        return [safe_text(text, 120), *place, type_index, thing.image_index, *(thing.xyxy or ()), _short(thing.score)]

    def _picture(self, picture: Picture) -> dict[str, Any]:
        is_shown = picture.state == "ok" and not self.redact
        thumb = self.album.place(picture.name, picture.digest) if is_shown else None
        return {
            "thumb": _index(thumb),
            "width": picture.width,
            "height": picture.height,
            "state": safe_text(picture.state, NAME_CHARS),
            "name": "" if self.redact else safe_text(picture.name, NAME_CHARS),
        }


def line_of(post: Post, boxes: Iterable[Grounded]) -> Line:
    """A post that was not tagged, as a line: gold entities where it has labels, and the boxes found in its pictures."""
    pictures = tuple(Picture(one.name, one.digest, one.width, one.height, one.state) for one in post.images)
    things = tuple(
        Thing(one.source, one.text, one.span, one.box.image_index, one.box.xyxy, one.score)
        for one in boxes
        if one.box.image_index < len(pictures)
    )
    gold = None if post.tags is None else tuple(entities(post.tags))
    return Line(post.id, post.split, post.words, pictures, gold, (), things)


def n_pictures(lines: Iterable[Line]) -> int:
    """How many distinct pictures the posts ask for."""
    pictures = (picture for line in lines for picture in line.pictures if picture.state == "ok")
    return len({picture.digest or picture.name for picture in pictures})


def _redacted(text: str, redact: bool) -> str:
    return " ".join(redacted(text.split())) if redact else text


def _index(value: int | None) -> int:
    return -1 if value is None else value


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

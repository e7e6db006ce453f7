"""Which posts a page shows: all with errors up to a cap, and a sample of the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from report.errors import outcomes
from report.runs import Line

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

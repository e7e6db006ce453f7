"""What a check finds: fine, odd, or in the way of work; and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of `fmit doctor`. A note is odd or worth knowing; a problem stops work, and `todo` ends it."""

    topic: str
    level: Level
    what: str
    todo: str = ""


def ok(topic: str, what: str) -> Finding:
    return Finding(topic, "ok", what)


def note(topic: str, what: str, todo: str = "") -> Finding:
    return Finding(topic, "note", what, todo)


def problem(topic: str, what: str, todo: str) -> Finding:
    return Finding(topic, "problem", what, todo)

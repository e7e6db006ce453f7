"""What a check reports: that something is fine, worth knowing, or a problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of `fmit doctor`. A problem stops work or spoils its results; `todo` says how to solve it."""

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

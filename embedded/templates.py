"""Sentences of the smoke shard. Slots: `{a}`, `{b}` names, `{thing}` something that is no entity, and noise.

A slot's words are a whole noun phrase (`the left Jordan`), which stands alone as a subject, an object or behind a
preposition, so that a constituency parser finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Template:
    """Words with slots, parted by blanks."""

    text: str

    @cached_property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.text.split())

    @property
    def n_names(self) -> int:
        return ("{a}" in self.parts) + ("{b}" in self.parts)

    @property
    def has_thing(self) -> bool:
        return "{thing}" in self.parts


SINGLES = tuple(
    Template(text)
    for text in (
        "{a} was waiting behind {thing} again .",
        "look at {a} ! {tag}",
        "RT {user} : {thing} belongs to {a}",
        "I could not see {a} because of {thing} {url}",
        "nobody at home remembers {a} anymore .",
    )
)
PAIRS = tuple(
    Template(text)
    for text in (
        "{a} just met {b} again .",
        "we saw {a} before {b} arrived",
        "RT {user} : {a} talks about {b}",
        "now {a} belongs to {b} {tag}",
        "{a} has not forgotten {b} .",
        "my sister says that {a} found {b}",
        "{a} is standing beside {b} {url}",
        "{a} will soon replace {b} {tag}",
        "does {a} live far from {b} ?",
        "{a} looks better than {b} lol",
    )
)

"""What every parser of the project is: words in, labelled spans out.

Over-long sentences go through a parser in parts, and come back whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schema.errors import DataError


@dataclass(frozen=True, slots=True)
class Parsed:
    """A sentence's constituents: `(start, end, label)` over its words `[start, end)`, a node of the tree each.

    Labels carry no function tags (`NP`, never `NP-SBJ`). `fallback` says what the parser had to do to get here: ""
    (nothing), "split" (the sentence was too long and went through in parts).
    """

    spans: tuple[tuple[int, int, str], ...]
    fallback: str = ""

    def __post_init__(self) -> None:
        for start, end, label in self.spans:
            if not (0 <= start < end and label):
                raise DataError("a constituent needs 0 <= start < end and a label", found=f"[{start}, {end}) {label!r}")


class Parser(Protocol):
    """A constituency parser, or anything that answers like one.

    `identity` names everything that changes what it answers (name, digest of the weights, algorithm version) and
    nothing else. A sentence's answer does not depend on the sentences that it comes with.
    """

    @property
    def identity(self) -> Mapping[str, str]: ...

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        """One answer a sentence, in order. Sentences have at least one word; words are not empty."""
        ...


class LazyParser:
    """A parser that is loaded for the first sentence; what names its rows is known before."""

    def __init__(self, identity: Mapping[str, str], load: Callable[[], Parser]) -> None:
        self.identity = dict(identity)
        self.load = functools.cache(load)  # raises WeightsError where the model cannot be read

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        """See `Parser.parse`."""
        return self.load().parse(sentences)


MARKS = frozenset(".!?…;:,-–—)")  # a word that ends in one of these is a good place to part
Range = tuple[int, int]  # words [start, end)


def ranges(words: Sequence[str], costs: Sequence[int], most_words: int, most_cost: int) -> list[Range]:
    """Consecutive parts of at most `most_words` words and `most_cost` in sum; no word is lost.

    A part ends behind the last mark in its second half, else as late as it may. A word that costs more than
    `most_cost` alone is a part alone.
    """
    found, start = [], 0
    while start < len(words):
        end, used = start + 1, costs[start]
        while end < len(words) and end - start < most_words and used + costs[end] <= most_cost:
            used += costs[end]
            end += 1
        if end < len(words):
            marks = [at for at in range(start + (end - start) // 2, end) if words[at][-1] in MARKS]
            end = marks[-1] + 1 if marks else end
        found.append((start, end))
        start = end
    return found


def joined(parts: Sequence[Range], answers: Sequence[Sequence[tuple[int, int, str]]]) -> Parsed:
    """The answers for the parts of a sentence, which count words from their own start, as one."""
    nodes = [
        (start + offset, end + offset, label)
        for (offset, _), part in zip(parts, answers, strict=True)
        for start, end, label in part
    ]
    return Parsed(tuple(nodes), "split" if len(parts) > 1 else "")

"""The interface of all parsers: words in, labeled spans out. Sentences that are too long are parsed in parts."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.engine import Part
from schema.errors import DataError

Node = tuple[int, int, str]  # words [start, end) and label of a constituent
ROOTS = frozenset({"", "ROOT", "TOP", "S1", "VROOT"})  # labels of the node above the sentence, which is no constituent
MARKS = frozenset(".!?…;:,-–—)")  # a sentence is best cut after a word that ends in one of these


@dataclass(frozen=True, slots=True)
class Parsed:
    """A sentence's constituents, one for each node of the tree.

    Labels have no function tags (`NP`, never `NP-SBJ`). `fallback` says how the parser departed from its usual
    procedure: "" (it did not), "split" (the sentence was too long and was parsed in parts).
    """

    spans: tuple[Node, ...]
    fallback: str = ""

    def __post_init__(self) -> None:
        for start, end, label in self.spans:
            if not (0 <= start < end and label):
                raise DataError("a constituent needs 0 <= start < end and a label", found=f"[{start}, {end}) {label!r}")


class Parser(Part, Protocol):
    """A constituency parser, or any other source of labeled spans.

    `identity` contains everything that changes the answers (name, digest of the weights, algorithm version) and nothing
    else. A sentence's answer does not depend on the sentences beside it.
    """

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        """One answer per sentence, in order. Sentences have at least one word; words are not empty."""
        ...


def category(label: str) -> str:
    """The label up to its first `-`: `NP-SBJ` is an `NP`. The tag `-LRB-` stays as it is."""
    return label.split("-", 1)[0] or label


class LazyParser:
    """A parser that is loaded for the first sentence; its identity is known before."""

    def __init__(self, identity: Mapping[str, str], load: Callable[[], Parser]) -> None:
        self.identity = dict(identity)
        self.load = functools.cache(load)  # raises WeightsError where the model cannot be read

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        return self.load().parse(sentences)


def parse_in_parts(
    sentences: Sequence[Sequence[str]],
    parse: Callable[[list[Sequence[str]]], Sequence[Sequence[Node]]],
    max_words: int,
    costs: Sequence[Sequence[int]] | None = None,
    max_cost: int = 0,
) -> list[Parsed]:
    """Sentences as `parse` answers for parts of them, see `ranges`; without `costs` the number of words is limited."""
    costs = costs if costs is not None else [[0] * len(words) for words in sentences]
    cuts = [ranges(words, each, max_words, max_cost) for words, each in zip(sentences, costs, strict=True)]
    parts = [words[start:end] for words, cut in zip(sentences, cuts, strict=True) for start, end in cut]
    answers = iter(parse(parts))
    parsed = []
    for cut in cuts:
        nodes = [(at + start, at + end, label) for at, _ in cut for start, end, label in next(answers)]
        parsed.append(Parsed(tuple(nodes), "split" if len(cut) > 1 else ""))
    return parsed


def ranges(words: Sequence[str], costs: Sequence[int], max_words: int, max_cost: int) -> list[tuple[int, int]]:
    """Consecutive parts [start, end) of at most `max_words` words and `max_cost` in sum; no word is lost.

    A part ends after the last mark in its second half, else as late as possible. A word that costs more than `max_cost`
    is a part of its own.
    """
    parts, start = [], 0
    while start < len(words):
        end, used = start + 1, costs[start]
        while end < len(words) and end - start < max_words and used + costs[end] <= max_cost:
            used += costs[end]
            end += 1
        if end < len(words):
            marks = [at for at in range(start + (end - start) // 2, end) if words[at][-1] in MARKS]
            end = marks[-1] + 1 if marks else end
        parts.append((start, end))
        start = end
    return parts

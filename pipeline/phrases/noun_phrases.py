"""From constituents to noun phrases: which nodes count, and what is no phrase although a parser says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.phrases.config import Kind
from pipeline.phrases.normalize import URL

Node = tuple[int, int, str]  # start, end, label

_PRONOUNS = """
    i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its itself
    we us our ours ourselves they them their theirs themselves u ya yall y'all im who whom whose which what that this
    these those there here one ones someone somebody something anyone anybody anything everyone everybody everything
    nobody nothing none all both each some any other others another
"""
PRONOUNS = frozenset(_PRONOUNS.split())


def category(label: str) -> str:
    """The label up to its first `-`: `NP-SBJ` is an `NP`."""
    return label.split("-", 1)[0] or label


def noun_phrases(nodes: Iterable[Node], labels: Sequence[str], kind: Kind) -> list[Node]:
    """Nodes with one of the labels, unique by span and ordered by (start, end).

    `all` keeps them all, `maximal` those inside no other, `base` those with no other inside. A span with several of
    the labels has the one that comes first in `labels`.
    """
    ranks = {label: rank for rank, label in reversed(list(enumerate(labels)))}
    spans: dict[tuple[int, int], int] = {}
    for start, end, label in nodes:
        rank = ranks.get(category(label))
        if rank is not None:
            spans[start, end] = min(rank, spans.get((start, end), rank))
    found = [(start, end, labels[rank]) for (start, end), rank in sorted(spans.items())]
    if kind == "maximal":
        return [node for node in found if not any(_inside(node, other) for other in found)]
    if kind == "base":
        return [node for node in found if not any(_inside(other, node) for other in found)]
    return found


def _inside(inner: Node, outer: Node) -> bool:
    """Whether the words of one lie within the other's, which has more."""
    return outer[0] <= inner[0] and inner[1] <= outer[1] and inner[:2] != outer[:2]


def is_bare(word: str) -> bool:
    """Whether a word names nothing to look for: a pronoun, a URL, an @name or a mark. A phrase of such is dropped."""
    return (
        word.lower() in PRONOUNS
        or word.startswith("@")
        or URL.match(word) is not None
        or not any(character.isalnum() for character in word)
    )


def shortest(nodes: Sequence[Node], most: int | None) -> list[Node]:
    """At most `most` of the nodes, the longest ones cut first (of equals the later one), in their order."""
    if most is None or len(nodes) <= most:
        return list(nodes)
    return sorted(sorted(nodes, key=lambda node: (node[1] - node[0], node[0]))[:most])

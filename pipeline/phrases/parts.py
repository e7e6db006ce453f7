"""Over-long sentences go through a parser in parts, and come back whole."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.phrases.parser import Parsed

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

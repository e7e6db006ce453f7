"""Noun-phrase scores of a parser against gold trees: `fmit embedded score-parser FILE.ptb`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded import treebank
from embedded.treebank import Tree
from pipeline.phrases.parser import Parser
from schema.errors import DataError


@dataclass(frozen=True)
class Score:
    """Noun-phrase spans, micro over sentences."""

    n_correct: int
    n_predicted: int
    n_gold: int
    n_sentences: int
    seconds: float

    @property
    def precision(self) -> float:
        return self.n_correct / self.n_predicted if self.n_predicted else 0.0

    @property
    def recall(self) -> float:
        return self.n_correct / self.n_gold if self.n_gold else 0.0

    @property
    def f1(self) -> float:
        both = self.n_predicted + self.n_gold
        return 2 * self.n_correct / both if both else 0.0


def score(trees: Sequence[Tree] | Path, parser: Parser, label: str = "NP") -> Score:
    """Spans of nodes with this label, gold words in, all sentences, compared as sets with the gold trees'."""
    gold = treebank.read(trees) if isinstance(trees, Path) else trees
    if not gold:
        raise DataError("no trees to score", where=str(trees) if isinstance(trees, Path) else "")
    began = time.perf_counter()
    answers = parser.parse([tree.words for tree in gold])
    seconds = time.perf_counter() - began
    n_correct = n_predicted = n_gold = 0
    for tree, answer in zip(gold, answers, strict=True):
        wanted, found = tree.labelled(label), {(start, end) for start, end, name in answer.spans if name == label}
        n_correct, n_predicted, n_gold = (
            n_correct + len(wanted & found),
            n_predicted + len(found),
            n_gold + len(wanted),
        )
    return Score(n_correct, n_predicted, n_gold, len(gold), seconds)

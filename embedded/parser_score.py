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
from schema.scores import Counts


@dataclass(frozen=True)
class Score(Counts):
    """Noun-phrase spans, micro over sentences."""

    n_sentences: int = 0
    seconds: float = 0.0


def score(trees: Sequence[Tree] | Path, parser: Parser, label: str = "NP") -> Score:
    """Spans of nodes with this label, gold words in, all sentences, compared as sets with the gold trees'."""
    gold = treebank.read(trees) if isinstance(trees, Path) else trees
    if not gold:
        raise DataError("no trees to score", where=str(trees) if isinstance(trees, Path) else "")
    began = time.perf_counter()
    answers = parser.parse([tree.words for tree in gold])
    seconds = time.perf_counter() - began
    total = Counts()
    for tree, answer in zip(gold, answers, strict=True):
        wanted, found = tree.labelled(label), {(start, end) for start, end, name in answer.spans if name == label}
        total += Counts(len(wanted), len(found), len(wanted & found))
    return Score(total.n_gold, total.n_predicted, total.n_correct, len(gold), seconds)

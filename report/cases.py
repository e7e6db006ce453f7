"""Figure 3: posts on which the approaches disagree, with the predictions of each and their confidence.

Figure 4: gold entities that bert-crf misses and another approach finds (corrected), and the reverse (broken).
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from report.layout import Column, Number, Row, Table, entity_text, mean
from report.pages import redacted, safe_text
from report.results import Published
from report.run_set import TEXT_ONLY, RunSet
from schema.prediction import PredictedEntity, Prediction
from schema.records import Entity

MINE = "fmit"


def choose(runs: RunSet, dataset: str, n_cases: int) -> list[dict[str, Prediction]]:
    """Posts on which the runs of the first seed disagree, each as a line of every approach.

    Half of them are posts where FMIT is right and bert-crf is wrong, half the reverse; if one half has too few, the
    other takes its place, then posts on which any other approach differs. Within each group the order is that of a
    digest of the id, so nobody picks.
    """
    seed = next(iter(runs.seeds), 0)
    names = [name for name in runs.present(dataset) if seed in runs.of(dataset, name)]
    lines = {name: {line.post.id: line for line in runs.lines(dataset, name, seed)} for name in names}
    if len(lines) < 2:
        return []
    better: list[str] = []  # FMIT is right, bert-crf is wrong
    worse: list[str] = []  # the reverse
    other: list[str] = []
    for id_ in sorted(lines[names[0]], key=_order):
        gold = set(lines[names[0]][id_].gold or ())
        correct = {name: set(some[id_].predicted) == gold for name, some in lines.items()}
        mine, text = correct.get(MINE), correct.get(TEXT_ONLY)
        if gold and len(set(correct.values())) == 2:
            (better if mine and text is False else worse if text and mine is False else other).append(id_)
    n_better = min(len(better), max(n_cases - n_cases // 2, n_cases - len(worse)))
    chosen = [*better[:n_better], *worse[: n_cases - n_better]]
    chosen += other[: n_cases - len(chosen)]
    return [{name: some[id_] for name, some in lines.items()} for id_ in chosen]


def figure3(
    cases: Sequence[Mapping[str, Prediction]], paper: Published, dataset: str, *, redact: bool = False
) -> list[Table]:
    """A table for each case, with one row for each approach."""
    tables = []
    for number, lines in enumerate(cases, 1):
        line = next(iter(lines.values()))
        words = redacted(line.post.words) if redact else line.post.words
        rows = [Row("gold", (", ".join(entity_text(words, one) for one in line.gold or ()),))]
        for name, other in lines.items():
            predictions = ", ".join(_prediction(words, one, one.entity in (line.gold or ())) for one in other.entities)
            rows.append(Row(paper.name(name), (predictions or "nothing",)))
        title = f"Figure 3, {dataset} {number}: {safe_text(' '.join(words))}"
        tables.append(Table(f"figure3-{dataset}-{number}", title, (Column("entities (confidence)"),), tuple(rows)))
    return tables


def _prediction(words: Sequence[str], predicted: PredictedEntity, is_correct: bool) -> str:
    """`Ada Lovelace PER (0.93)`, with a cross if it is wrong."""
    confidence = "" if predicted.confidence is None else f" ({predicted.confidence:.2f})"
    return f"{entity_text(words, predicted.entity)}{confidence}{'' if is_correct else ' ✗'}"


def _order(id_: str) -> bytes:
    return hashlib.sha256(id_.encode("utf-8", "replace")).digest()


Kind = Literal["corrected", "broken"]
LISTED = ("approach", "seed", "kind", "post", "entity", "type", "bert-crf", "approach says")
N_LISTED = 20_000  # rows of the list


class Change(NamedTuple):
    """A gold entity that only one of two runs finds; `before` and `after` are the predictions that overlap it."""

    approach: str
    seed: int
    kind: Kind
    post: str
    text: str
    type: str
    before: str
    after: str

    def to_row(self) -> dict[str, object]:
        """The columns `LISTED`."""
        return dict(zip(LISTED, self, strict=True))


def changes(runs: RunSet, dataset: str, approach: str, seed: int, *, redact: bool = False) -> Iterator[Change]:
    """What an approach's run changes relative to bert-crf's with the same seed, in the order of the posts."""
    after = {line.post.id: line for line in runs.lines(dataset, approach, seed)}
    for line in runs.lines(dataset, TEXT_ONLY, seed):
        other = after[line.post.id]
        words = redacted(line.post.words) if redact else line.post.words
        for gold in line.gold or ():
            if (gold in line.predicted) != (gold in other.predicted):
                kind: Kind = "corrected" if gold in other.predicted else "broken"
                text = safe_text(" ".join(words[gold.span.start : gold.span.end]))
                sides = (_overlapping(one, gold, words) for one in (line, other))
                yield Change(approach, seed, kind, line.post.id, text, gold.type, *sides)


def all_changes(runs: RunSet, dataset: str, *, redact: bool = False) -> list[Change]:
    """The changes of every approach, for each seed that bert-crf has too."""
    pairs = [(name, seed) for name, seeds in _common_seeds(runs, dataset).items() for seed in seeds]
    return [one for name, seed in pairs for one in changes(runs, dataset, name, seed, redact=redact)]


def counted(runs: RunSet, dataset: str, found: Sequence[Change]) -> dict[str, tuple[list[int], list[int]]]:
    """Approach -> (corrected, broken), a number for each seed that bert-crf has too."""
    return {
        name: (
            [sum((one.approach, one.seed, one.kind) == (name, seed, "corrected") for one in found) for seed in seeds],
            [sum((one.approach, one.seed, one.kind) == (name, seed, "broken") for one in found) for seed in seeds],
        )
        for name, seeds in _common_seeds(runs, dataset).items()
    }


def figure4(runs: RunSet, paper: Published, dataset: str, found: Sequence[Change]) -> Table:
    """Counts by approach, mean over seeds."""
    rows = []
    for approach, (corrected, broken) in counted(runs, dataset, found).items():
        net = Number(statistics.mean(a - b for a, b in zip(corrected, broken, strict=True)), None, 1)
        rows.append(Row(paper.name(approach), (mean(corrected, 1), mean(broken, 1), net)))
    columns = (Column(f"{TEXT_ONLY} wrong, corrected"), Column(f"{TEXT_ONLY} right, broken"), Column("net"))
    n_gold = sum(
        len(line.gold or ())
        for seed in list(runs.of(dataset, TEXT_ONLY))[:1]
        for line in runs.lines(dataset, TEXT_ONLY, seed)
    )
    note = f"Of {n_gold} gold entities in the {runs.split(dataset)} split; mean over seeds, same seed of {TEXT_ONLY}."
    title = f"Figure 4: entities against {TEXT_ONLY}, {dataset}"
    return Table(f"figure4-{dataset}", title, columns, tuple(rows), (note,))


def _common_seeds(runs: RunSet, dataset: str) -> dict[str, list[int]]:
    """Approaches with the seeds that they share with bert-crf."""
    seeds = runs.of(dataset, TEXT_ONLY)
    common = {name: [seed for seed in runs.of(dataset, name) if seed in seeds] for name in runs.present(dataset)}
    return {name: some for name, some in common.items() if name != TEXT_ONLY and some}


def _overlapping(line: Prediction, gold: Entity, words: Sequence[str]) -> str:
    return "; ".join(entity_text(words, one) for one in line.predicted if one.span.overlaps(gold.span))

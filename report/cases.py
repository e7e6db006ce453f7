"""Figure 3: posts on which the approaches disagree, with the predictions of each and their confidence.

Figure 4: gold entities that bert-crf misses and another approach finds (corrected), and the reverse (broken).
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from report.layout import Column, Number, Row, Table, mean
from report.pages import redacted, safe_text
from report.results import Published
from report.run_set import TEXT_ONLY, RunSet
from schema.prediction import Prediction
from schema.records import Entity, Image

MINE = "fmit"


@dataclass(frozen=True)
class Case:
    """A post with gold entities as text, and the predictions of each approach: (text, confidence, is correct)."""

    dataset: str
    id: str
    text: str
    image: Image | None
    gold: tuple[str, ...]
    predictions: Mapping[str, tuple[tuple[str, float | None, bool], ...]]


def choose(runs: RunSet, dataset: str, n_cases: int, *, redact: bool = False) -> list[Case]:
    """Posts on which the runs of the first seed disagree.

    Half of them are posts where FMIT is right and bert-crf is wrong, half the reverse; if one half has too few, the
    other takes its place, then posts on which any other approach differs. Within each group the order is that of a
    digest of the id, so nobody picks.
    """
    seed = next(iter(runs.seeds), None)
    lines = {
        name: {line.post.id: line for line in runs.lines(dataset, name, seed)}
        for name in runs.present(dataset)
        if seed is not None and seed in runs.of(dataset, name)
    }
    if len(lines) < 2:
        return []
    first = next(iter(lines.values()))
    better: list[str] = []  # FMIT is right, bert-crf is wrong
    worse: list[str] = []  # the reverse
    other: list[str] = []
    for id_ in sorted(first, key=_order):
        correct = {name: set(some[id_].predicted) == set(some[id_].gold or ()) for name, some in lines.items()}
        mine, text = correct.get(MINE), correct.get(TEXT_ONLY)
        if first[id_].gold and len(set(correct.values())) == 2:
            (better if mine and text is False else worse if text and mine is False else other).append(id_)
    n_better = min(len(better), max(n_cases - n_cases // 2, n_cases - len(worse)))
    chosen = [*better[:n_better], *worse[: n_cases - n_better]]
    chosen += other[: n_cases - len(chosen)]
    return [_case(dataset, {name: some[id_] for name, some in lines.items()}, redact) for id_ in chosen]


def figure3(cases: Sequence[Case], paper: Published) -> list[Table]:
    """A table for each case, with one row for each approach."""
    tables = []
    for number, case in enumerate(cases, 1):
        rows = [Row("gold", (", ".join(case.gold),))]
        for name, predictions in case.predictions.items():
            rows.append(Row(paper.name(name), (", ".join(map(entity_text, predictions)) or "nothing",)))
        title = f"Figure 3, {case.dataset} {number}: {case.text}"
        tables.append(Table(f"figure3-{case.dataset}-{number}", title, (Column("entities (confidence)"),), tuple(rows)))
    return tables


def entity_text(prediction: tuple[str, float | None, bool]) -> str:
    """`Ada Lovelace PER (0.93)`, with a cross if it is wrong."""
    text, confidence, is_correct = prediction
    shown = "" if confidence is None else f" ({confidence:.2f})"
    return f"{text}{shown}{'' if is_correct else ' ✗'}"


def _case(dataset: str, lines: Mapping[str, Prediction], redact: bool) -> Case:
    line = next(iter(lines.values()))
    words = redacted(line.post.words) if redact else line.post.words
    gold = line.gold or ()
    predictions = {
        name: tuple((_text(words, one.entity), one.confidence, one.entity in gold) for one in other.entities)
        for name, other in lines.items()
    }
    image = next((image for image in line.post.images if image.ok), None)
    texts = tuple(_text(words, entity) for entity in gold)
    return Case(dataset, line.post.id, safe_text(" ".join(words)), image, texts, predictions)


def _text(words: Sequence[str], entity: Entity) -> str:
    return safe_text(f"{' '.join(words[entity.span.start : entity.span.end])} {entity.type}")


def _order(id_: str) -> bytes:
    return hashlib.sha256(id_.encode("utf-8", "replace")).digest()


Kind = Literal["corrected", "broken"]
LISTED = ("approach", "seed", "kind", "post", "entity", "type", "bert-crf", "approach says")
N_LISTED = 20_000  # rows of the list


@dataclass(frozen=True, slots=True)
class Change:
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
        values = (self.approach, self.seed, self.kind, self.post, self.text, self.type, self.before, self.after)
        return dict(zip(LISTED, values, strict=True))


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
    return "; ".join(_text(words, one) for one in line.predicted if one.span.overlaps(gold.span))

"""Figure 4: gold entities that bert-crf gets wrong and an approach gets right, and the reverse."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from report.field import TEXT_ONLY, Field
from report.layout import Column, Number, Row, Table, mean
from report.published import Published
from report.runs import Line
from report.safe import redacted, safe_text
from schema.records import Entity

Kind = Literal["corrected", "broken"]
LISTED = ("approach", "seed", "kind", "post", "entity", "type", "bert-crf", "approach says")
N_LISTED = 20_000  # lines of the list


@dataclass(frozen=True, slots=True)
class Change:
    """A gold entity that one of the two gets right; `before` and `after` are what overlaps it in each prediction."""

    approach: str
    seed: int
    kind: Kind
    post: str
    text: str
    type: str
    before: str
    after: str

    def to_row(self) -> dict[str, object]:
        """Under `LISTED`."""
        values = (self.approach, self.seed, self.kind, self.post, self.text, self.type, self.before, self.after)
        return dict(zip(LISTED, values, strict=True))


def changes(field: Field, dataset: str, approach: str, seed: int, *, redact: bool = False) -> Iterator[Change]:
    """What an approach's run changes against bert-crf's of the same seed, in the posts' order."""
    before = field.lines(dataset, TEXT_ONLY, seed)
    after = {line.id: line for line in field.lines(dataset, approach, seed)}
    for line in before:
        other = after[line.id]
        words = redacted(line.words) if redact else line.words
        for gold in line.gold or ():
            was, is_now = gold in line.entities, gold in other.entities
            if was != is_now:
                text = safe_text(" ".join(words[gold.span.start : gold.span.end]))
                kind: Kind = "corrected" if is_now else "broken"
                yield Change(
                    approach, seed, kind, line.id, text, gold.type, _says(line, gold, words), _says(other, gold, words)
                )


def all_changes(field: Field, dataset: str, *, redact: bool = False) -> list[Change]:
    """Of every approach that has a run beside bert-crf's."""
    seeds = field.of(dataset, TEXT_ONLY)
    return [
        change
        for approach in field.present(dataset)
        if approach != TEXT_ONLY
        for seed in field.of(dataset, approach)
        if seed in seeds
        for change in changes(field, dataset, approach, seed, redact=redact)
    ]


def counted(field: Field, dataset: str, found: list[Change]) -> dict[str, tuple[list[int], list[int]]]:
    """approach -> (corrected, broken) of each seed that both have."""
    seeds = field.of(dataset, TEXT_ONLY)
    counts = {}
    for approach in field.present(dataset):
        both = [seed for seed in field.of(dataset, approach) if seed in seeds]
        if approach != TEXT_ONLY and both:
            mine = [one for one in found if one.approach == approach]
            counts[approach] = tuple(
                [sum(one.seed == seed and one.kind == kind for one in mine) for seed in both]
                for kind in ("corrected", "broken")
            )
    return counts  # type: ignore[return-value]


def figure4(field: Field, paper: Published, dataset: str, found: list[Change]) -> Table:
    """Counts by approach, mean over seeds."""
    rows = []
    for approach, (corrected, broken) in counted(field, dataset, found).items():
        net = Number(statistics.mean(a - b for a, b in zip(corrected, broken, strict=True)), None, 1)
        rows.append(Row(paper.name(approach), (mean(corrected, 1), mean(broken, 1), net)))
    columns = (Column("bert-crf wrong, corrected"), Column("bert-crf right, broken"), Column("net"))
    n_gold = sum(
        len(post.gold or ())
        for seed in list(field.of(dataset, TEXT_ONLY))[:1]
        for post in field.lines(dataset, TEXT_ONLY, seed)
    )
    notes = (
        f"Of {n_gold} gold entities of the {field.split(dataset)} split, mean over seeds, "
        "each against bert-crf of that seed.",
    )
    return Table(f"figure4-{dataset}", f"Figure 4: entities against bert-crf, {dataset}", columns, tuple(rows), notes)


def _says(line: Line, gold: Entity, words: tuple[str, ...]) -> str:
    met = [one for one in line.entities if one.span.overlaps(gold.span)]
    return safe_text("; ".join(f"{' '.join(words[one.span.start : one.span.end])} {one.type}" for one in met))

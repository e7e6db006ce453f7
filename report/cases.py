"""Figure 3: posts on which the approaches disagree, with what each of them predicts and how sure it is.

Figure 4: gold entities that bert-crf gets wrong and an approach gets right, and the reverse.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from report.field import TEXT_ONLY, Field
from report.layout import Column, Number, Row, Table, mean
from report.pages import redacted, safe_text
from report.results import Published
from report.runs import Line, Picture
from schema.records import Entity

MINE = "fmit"


@dataclass(frozen=True)
class Case:
    """A post, and what each approach says: (text, type, confidence, right) of each predicted entity."""

    dataset: str
    line: Line
    text: str
    gold: tuple[str, ...]
    said: Mapping[str, tuple[tuple[str, float | None, bool], ...]]

    @property
    def picture(self) -> Picture | None:
        return next((one for one in self.line.pictures if one.state == "ok"), None)


def choose(field: Field, dataset: str, n_cases: int, *, redact: bool = False) -> list[Case]:
    """Posts of the tables' split, half of them where FMIT is right and bert-crf is not, half the other way round.

    The digests of ids decide among equals, so nobody picks. What one half lacks the other takes, then other posts on
    which some approach is right and some is wrong. Runs of the first seed speak.
    """
    seed = field.seeds[0]
    said = {
        name: {line.id: line for line in field.lines(dataset, name, seed)}
        for name in field.present(dataset)
        if seed in field.of(dataset, name)
    }
    if len(said) < 2:
        return []
    first = next(iter(said.values()))
    groups: tuple[list[str], list[str], list[str]] = ([], [], [])
    for id_ in sorted(first, key=_drawn):
        right = {name: set(lines[id_].entities) == set(lines[id_].gold or ()) for name, lines in said.items()}
        if first[id_].gold and len(set(right.values())) == 2:
            mine, text = right.get(MINE), right.get(TEXT_ONLY)
            groups[0 if mine and text is False else 1 if text and mine is False else 2].append(id_)
    chosen = _balanced(groups, n_cases)
    return [_case(dataset, id_, said, redact) for id_ in chosen]


def figure3(cases: Sequence[Case], paper: Published) -> list[Table]:
    """A table for each case: a row an approach."""
    tables = []
    for number, case in enumerate(cases, 1):
        rows = [Row("gold", (", ".join(case.gold),))]
        for name, found in case.said.items():
            rows.append(Row(paper.name(name), (", ".join(map(spoken, found)) or "nothing",)))
        title = f"Figure 3, {case.dataset} {number}: {case.text}"
        tables.append(Table(f"figure3-{case.dataset}-{number}", title, (Column("entities (confidence)"),), tuple(rows)))
    return tables


def spoken(found: tuple[str, float | None, bool]) -> str:
    """`Ada Lovelace PER (0.93)`, with a mark where it is wrong."""
    text, confidence, is_right = found
    sure = "" if confidence is None else f" ({confidence:.2f})"
    return f"{text}{sure}{'' if is_right else ' ✗'}"


def _balanced(groups: tuple[list[str], list[str], list[str]], n_cases: int) -> list[str]:
    better, worse, other = groups
    n_better = min(len(better), max(n_cases - n_cases // 2, n_cases - len(worse)))
    chosen = better[:n_better] + worse[: n_cases - n_better]
    return chosen + other[: n_cases - len(chosen)]


def _case(dataset: str, id_: str, said: Mapping[str, Mapping[str, Line]], redact: bool) -> Case:
    line = next(iter(said.values()))[id_]
    words = redacted(line.words) if redact else line.words

    def text(start: int, end: int, name: str) -> str:
        return safe_text(f"{' '.join(words[start:end])} {name}")

    gold = line.gold or ()
    return Case(
        dataset,
        line,
        safe_text(" ".join(words)),
        tuple(text(one.span.start, one.span.end, one.type) for one in gold),
        {
            name: tuple(
                (text(one.entity.span.start, one.entity.span.end, one.entity.type), one.confidence, one.entity in gold)
                for one in lines[id_].predicted
            )
            for name, lines in said.items()
        },
    )


def _drawn(id_: str) -> bytes:
    return hashlib.sha256(id_.encode("utf-8", "replace")).digest()


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

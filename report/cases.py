"""Figure 3: posts on which the approaches disagree, with what each of them predicts and how sure it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from report.corrections import TEXT_ONLY
from report.field import Field
from report.layout import Column, Row, Table
from report.published import Published
from report.runs import Line, Picture
from report.safe import redacted, safe_text

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

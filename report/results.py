"""Tables 1 to 5: the paper's figures beside ours, mean and standard deviation over seeds. Scores are percent.

What the paper prints, read from `paper.yaml`, to stand beside our figures.

What `bench.fusion` measured, read from the file that it wrote: Table 3's own figures.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cache.run_files import read_object
from report.field import Field
from report.layout import Cell, Column, Number, Row, Table, mean
from schema.errors import RunError
from schema.labels import entities

FILE = Path(__file__).with_name("paper.yaml")


@dataclass(frozen=True)
class Published:
    """Rows of each table by group, names of approaches, and the paper's own figures."""

    source: str
    types: tuple[str, ...]
    datasets: Mapping[str, str]
    names: Mapping[str, str]
    rows: Mapping[str, Mapping[str, tuple[str, ...]]]
    notes: Mapping[str, str]
    table1: Mapping[str, Mapping[str, Mapping[str, int]]]
    table3: Mapping[str, tuple[float, float]]
    scores: Mapping[str, Mapping[str, Mapping[str, tuple[float, ...]]]]  # of tables 2, 4 and 5

    def name(self, approach: str) -> str:
        """How tables call an approach."""
        return self.names.get(approach, approach)

    def approaches(self, *tables: str) -> list[str]:
        """Approaches of the rows of some tables, each once."""
        return list(
            dict.fromkeys(name for table in tables for some in self.rows[table].values() for name in some),
        )


@functools.cache
def published() -> Published:
    """The paper's figures."""
    raw: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    rows = {table: {name: tuple(some) for name, some in groups.items()} for table, groups in raw["rows"].items()}
    scores = {
        table: {
            data: {name: tuple(map(float, one)) for name, one in figures.items()}
            for data, figures in raw[table].items()
        }
        for table in ("table2", "table4", "table5")
    }
    table3 = {name: (float(speed), float(size)) for name, (speed, size) in raw["table3"].items()}
    return Published(
        raw["source"],
        tuple(raw["types"]),
        raw["datasets"],
        raw["names"],
        rows,
        raw["notes"],
        raw["table1"],
        table3,
        scores,
    )


FIGURES = ("seconds", "speedup", "parameters")
TODO = "remove the file: `fmit tables --step measure` measures again"


def read_fusion(path: Path) -> dict[str, Any] | None:
    """`rows` and `notes`, what Table 3 shows of them checked; None where it was not measured. Raises RunError."""
    if not path.exists():
        return None
    values = read_object(path, TODO)
    rows, notes = values.get("rows"), values.get("notes", [])
    if not isinstance(rows, list) or not isinstance(notes, list) or not all(isinstance(one, str) for one in notes):
        raise RunError("no figures of bench.fusion", where=str(path), found=", ".join(values) or "{}", todo=TODO)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or not isinstance(row.get("approach"), str):
            raise RunError("a row names its approach", where=f"{path} rows.{number}", found=repr(row), todo=TODO)
        padded = {} if row.get("padded_speedup") is None else {"padded_speedup": row["padded_speedup"]}
        for name, value in {**{name: row.get(name) for name in FIGURES}, **padded}.items():
            if type(value) not in (int, float) or not math.isfinite(value):
                where = f"{path} rows.{number}.{name}"
                raise RunError("no finite number", where=where, found=repr(value), todo=TODO)
    return values


PERCENT = 100.0
OVERALL = ("precision", "recall", "f1")
TITLES = {"table2": "Table 2: approaches", "table4": "Table 4: cross-domain", "table5": "Table 5: ablations"}


def table1(field: Field, paper: Published) -> list[Table]:
    """Data statistics: entities by type, and posts, of each split."""
    names = dict.fromkeys([*field.datasets, *paper.table1])
    return [_statistics(field, paper, name) for name in names]


def table2(field: Field, paper: Published) -> list[Table]:
    """Approaches on each dataset."""
    return [_scores(field, paper, "table2", name, name) for name in dict.fromkeys([*field.datasets, *paper.datasets])]


def table4(field: Field, paper: Published) -> list[Table]:
    """Trained on one dataset, scored on another."""
    pairs = dict.fromkeys([*field.crossings, *(tuple(name.split(" > ")) for name in paper.scores["table4"])])
    return [_scores(field, paper, "table4", trained_on, scored_on) for trained_on, scored_on in pairs]


def table5(field: Field, paper: Published) -> list[Table]:
    """Ablations on each dataset."""
    return [_scores(field, paper, "table5", name, name) for name in dict.fromkeys([*field.datasets, *paper.datasets])]


def table3(fusion: Mapping[str, Any] | None, paper: Published) -> list[Table]:
    """Speed and parameters of the interaction parts relative to UMGF's; `fusion` is what `bench.fusion` wrote."""
    columns = (
        Column("speedup", "paper"),
        Column("parameters, M", "paper"),
        Column("ms", "ours"),
        Column("speedup", "ours"),
        Column("parameters, M", "ours"),
        Column("speedup, padded rivals", "ours"),
    )
    measured = {row["approach"]: row for row in (fusion or {}).get("rows", ())}
    rows = []
    for name in dict.fromkeys([*paper.table3, *measured]):
        printed, row = paper.table3.get(name), measured.get(name)
        ours: tuple[Cell, ...] = (None,) * 4
        if row is not None:
            padded = row.get("padded_speedup")
            ours = (
                Number(row["seconds"] * 1000),
                Number(row["speedup"]),
                Number(row["parameters"] / 1e6),
                None if padded is None else Number(padded),
            )
        cells = (Number(printed[0]), Number(printed[1], None, 0)) if printed else (None, None)
        rows.append(
            Row(paper.name(name), (*cells, *ours), "", "" if row else "not measured: no figures of bench.fusion")
        )
    notes = (paper.notes["table3"], *((fusion or {}).get("notes", ())))
    return [Table("table3", "Table 3: interaction parts at inference", columns, tuple(rows), tuple(notes))]


def _statistics(field: Field, paper: Published, dataset: str) -> Table:
    printed = paper.table1.get(dataset, {})
    types = field.types(dataset) if dataset in field.posts else paper.types
    counted = count_splits(field, dataset) if dataset in field.posts else {}
    splits = [name for name in ("train", "dev", "test") if name in counted or name in printed]
    columns = [
        *(Column(name, "paper") for name in splits if printed),
        *(Column(name, "ours") for name in splits),
    ]
    rows = []
    for key, label in [*((name, name) for name in types), ("all", "all entities"), ("posts", "posts"), *FURTHER]:
        theirs: list[Cell] = [_count(printed[name].get(key)) for name in splits] if printed else []
        ours = [_count(counted[name][key]) if name in counted else None for name in splits]
        rows.append(Row(label, (*theirs, *ours)))
    notes = list(field.notes.get(dataset, ()))
    if not counted:
        notes.append(f"Not read: {dataset} is not among the tables' datasets.")
    else:
        notes.append("Ours are strict entities: an orphan I- opens none.")
    title = f"Table 1: {paper.datasets.get(dataset, dataset)}"
    return Table(f"table1-{dataset}", title, tuple(columns), tuple(rows), tuple(notes))


FURTHER = (("seen", "posts with a picture that can be read"),)


def count_splits(field: Field, dataset: str) -> dict[str, Counter[str]]:
    """Strict entities by type, `all` of them, `posts`, and `seen`: posts with a readable picture."""
    found: dict[str, Counter[str]] = {}
    for post in field.table(dataset).posts:
        counts = found.setdefault(post.split, Counter())
        types = [one.type for one in entities(post.tags or ())]
        counts.update(types)
        counts.update({"all": len(types), "posts": 1, "seen": any(image.ok for image in post.images)})
    return found


def _scores(field: Field, paper: Published, table: str, trained_on: str, scored_on: str) -> Table:
    crossed = trained_on != scored_on
    place = f"{trained_on} > {scored_on}" if crossed else scored_on
    printed = paper.scores[table].get(place, {})
    known = trained_on in field.posts and scored_on in field.posts
    types = field.types(scored_on) if known else paper.types
    names = [*types, "P", "R", "F1"]
    beside = bool(printed) and set(types) == set(paper.types)
    columns = [*(Column(name, "paper") for name in names if beside), *(Column(name, "ours") for name in names)]
    rows = []
    for group, some in paper.rows[table].items():
        for approach in some:
            theirs = _printed(printed.get(approach), types, paper.types) if beside else ()
            metrics = field.metrics(trained_on, approach, scored_on) if known else {}
            rows.append(
                Row(
                    paper.name(approach),
                    (*theirs, *_ours(list(metrics.values()), types)),
                    group,
                    _remark(field, trained_on, scored_on, approach, len(metrics)),
                )
            )
    title = f"{TITLES[table]}, {_named(paper, trained_on)}"
    title += f" to {_named(paper, scored_on)}" if crossed else ""
    return Table(
        f"{table}-{place.replace(' > ', '-to-')}",
        f"{title}, {field.split(scored_on)} split" if known else title,
        tuple(columns),
        tuple(rows),
        tuple(_notes(field, paper, table, trained_on, bool(printed))),
    )


def _remark(field: Field, trained_on: str, scored_on: str, approach: str, n_scored: int) -> str:
    for name in (trained_on, scored_on):
        if name not in field.posts:
            return field.why(name, approach)
    n_lost = len(field.of(trained_on, approach)) - n_scored
    return field.why(trained_on, approach) or (f"{n_lost} runs not scored" if n_lost else "")


def _notes(field: Field, paper: Published, table: str, dataset: str, printed: bool) -> Iterable[str]:
    if dataset in field.posts:
        seeds = ", ".join(map(str, field.seeds))
        several = f"mean ± standard deviation over {len(field.seeds)} seeds ({seeds})"
        yield f"Ours: strict entities; {several if len(field.seeds) > 1 else f'one seed ({seeds})'}."
    if field.tiny and dataset in field.posts:
        yield "TINY SETTINGS: these figures prove that the tables can be made, and nothing else."
    if printed and table in paper.notes:
        yield paper.notes[table]
    if not printed:
        yield "The paper has no figures of this dataset."
    yield from field.notes.get(dataset, ())


def _named(paper: Published, dataset: str) -> str:
    return paper.datasets.get(dataset, dataset)


def _printed(figures: Sequence[float] | None, types: Sequence[str], order: Sequence[str]) -> tuple[Cell, ...]:
    """The paper's row in our order of types."""
    if figures is None:
        return (None,) * (len(types) + 3)
    by_type = dict(zip(order, figures, strict=False))
    return (*(Number(by_type[name]) for name in types), *(Number(value) for value in figures[-3:]))


def _ours(metrics: Sequence[Mapping[str, Any]], types: Sequence[str]) -> tuple[Cell, ...]:
    strict = [one["strict"] for one in metrics]
    single = (mean([PERCENT * one["types"][name]["f1"] for one in strict if name in one["types"]]) for name in types)
    return (*single, *(mean([PERCENT * one["micro"][name] for one in strict]) for name in OVERALL))


def _count(value: int | None) -> Cell:
    return None if value is None else Number(value, None, 0)

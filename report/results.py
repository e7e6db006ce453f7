"""Tables 1 to 5: the paper's figures beside ours, mean and sample standard deviation over seeds. Scores are percent.

The paper's figures are read from `paper.yaml`, those of Table 3 from the file that `python -m bench.fusion` writes.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import FiniteFloat

from cache.run_files import read_object
from report.layout import Cell, Column, Number, Row, Table, mean
from report.run_set import RunSet
from schema.config import Config
from schema.errors import ConfigError, RunError
from schema.labels import entities

FILE = Path(__file__).with_name("paper.yaml")
TITLES = {"table2": "Table 2: approaches", "table4": "Table 4: cross-domain", "table5": "Table 5: ablations"}
OVERALL = {"P": "precision", "R": "recall", "F1": "f1"}
COUNTS = {"all": "all entities", "posts": "posts", "readable": "posts with a readable image"}  # rows below the types
MEASURE_AGAIN = "remove the file and measure again (python -m bench.fusion --out FILE)"


class Published(Config):
    """Rows of each table by group, display names of approaches, and the paper's own figures."""

    source: str
    types: tuple[str, ...]
    datasets: dict[str, str]
    names: dict[str, str]
    rows: dict[str, dict[str, tuple[str, ...]]]
    notes: dict[str, str]
    table1: dict[str, dict[str, dict[str, int]]]
    table2: dict[str, dict[str, tuple[float, ...]]]
    table3: dict[str, tuple[float, float]]  # speed relative to UMGF, millions of parameters
    table4: dict[str, dict[str, tuple[float, ...]]]
    table5: dict[str, dict[str, tuple[float, ...]]]

    @property
    def scores(self) -> dict[str, dict[str, dict[str, tuple[float, ...]]]]:
        """F1 of each type, then P, R and F1 of all: by table, dataset and approach."""
        return {"table2": self.table2, "table4": self.table4, "table5": self.table5}

    def name(self, approach: str) -> str:
        """The display name of an approach."""
        return self.names.get(approach, approach)

    def dataset(self, name: str) -> str:
        """The display name of a dataset."""
        return self.datasets.get(name, name)

    def approaches(self, *tables: str) -> list[str]:
        """The approaches in the rows of some tables, each once."""
        return list(dict.fromkeys(name for table in tables for group in self.rows[table].values() for name in group))


@functools.cache
def published() -> Published:
    """The paper's figures."""
    return Published.checked(yaml.safe_load(FILE.read_text(encoding="utf-8")), "", file=str(FILE))


class FusionRow(Config, extra="ignore"):
    """Figures of one interaction module: seconds for a batch, parameters, speed relative to UMGF."""

    approach: str
    seconds: FiniteFloat
    speedup: FiniteFloat
    parameters: FiniteFloat
    padded_speedup: FiniteFloat | None = None  # relative to UMGF as its code runs, padded

    def cells(self) -> tuple[Cell, ...]:
        padded = None if self.padded_speedup is None else Number(self.padded_speedup)
        return Number(self.seconds * 1000), Number(self.speedup), Number(self.parameters / 1e6), padded


class Fusion(Config, extra="ignore"):
    """What `bench.fusion` measured."""

    rows: tuple[FusionRow, ...]
    notes: tuple[str, ...] = ()


def read_fusion(path: Path) -> Fusion | None:
    """The measurements in a file; None if it does not exist. Raises RunError for a damaged file."""
    if not path.exists():
        return None
    values = read_object(path, MEASURE_AGAIN)
    try:
        return Fusion.checked(values, "", file=str(path))
    except ConfigError as error:
        raise RunError(f"not a file of bench.fusion: {error}", todo=MEASURE_AGAIN) from None


def table1(runs: RunSet, paper: Published) -> list[Table]:
    """Data statistics: entities by type, and posts, of each split."""
    return [_statistics(runs, paper, name) for name in dict.fromkeys([*runs.datasets, *paper.table1])]


def table2(runs: RunSet, paper: Published) -> list[Table]:
    """Approaches on each dataset."""
    names = dict.fromkeys([*runs.datasets, *paper.datasets])
    return [_scores(runs, paper, "table2", name, name) for name in names]


def table3(fusion: Fusion | None, paper: Published) -> list[Table]:
    """Speed and parameters of the interaction modules relative to UMGF's."""
    printed = (Column("speedup", "paper"), Column("parameters, M", "paper"))
    names = ("ms", "speedup", "parameters, M", "speedup, padded baselines")
    measured = {row.approach: row for row in (fusion.rows if fusion else ())}
    rows = []
    for name in dict.fromkeys([*paper.table3, *measured]):
        figures, row = paper.table3.get(name), measured.get(name)
        theirs = (Number(figures[0]), Number(figures[1], None, 0)) if figures else (None, None)
        ours = row.cells() if row else (None,) * len(names)
        remark = "" if row else "not measured: see `python -m bench.fusion`"
        rows.append(Row(paper.name(name), (*theirs, *ours), "", remark))
    notes = (paper.notes["table3"], *(fusion.notes if fusion else ()))
    columns = (*printed, *(Column(name, "ours") for name in names))
    return [Table("table3", "Table 3: interaction modules at inference", columns, tuple(rows), notes)]


def table4(runs: RunSet, paper: Published) -> list[Table]:
    """Trained on one dataset, scored on another."""
    pairs = dict.fromkeys([*runs.crossings, *(tuple(name.split(" > ")) for name in paper.table4)])
    return [_scores(runs, paper, "table4", trained_on, scored_on) for trained_on, scored_on in pairs]


def table5(runs: RunSet, paper: Published) -> list[Table]:
    """Ablations on each dataset."""
    names = dict.fromkeys([*runs.datasets, *paper.datasets])
    return [_scores(runs, paper, "table5", name, name) for name in names]


def _statistics(runs: RunSet, paper: Published, dataset: str) -> Table:
    printed = paper.table1.get(dataset, {})
    counted = count_splits(runs, dataset) if dataset in runs.posts else {}
    types = runs.types(dataset) if counted else paper.types
    splits = [name for name in ("train", "dev", "test") if name in counted or name in printed]
    sides = [("paper", printed)] * bool(printed) + [("ours", counted)]
    columns = tuple(Column(name, side) for side, _ in sides for name in splits)
    rows = []
    for key, label in {**{name: name for name in types}, **COUNTS}.items():
        values = [figures[name].get(key) if name in figures else None for _, figures in sides for name in splits]
        rows.append(Row(label, tuple(None if value is None else Number(value, None, 0) for value in values)))
    counting = "Ours: strict entities; an I- tag without a B- tag opens none."
    notes = (*runs.notes.get(dataset, ()), counting if counted else f"No posts of {dataset} here.")
    return Table(f"table1-{dataset}", f"Table 1: {paper.dataset(dataset)}", columns, tuple(rows), notes)


def count_splits(runs: RunSet, dataset: str) -> dict[str, Counter[str]]:
    """Strict entities of each split by type, and under the keys of `COUNTS`."""
    splits: dict[str, Counter[str]] = {}
    for post in runs.table(dataset).posts:
        counts = splits.setdefault(post.split, Counter(dict.fromkeys((*runs.types(dataset), *COUNTS), 0)))
        types = [one.type for one in entities(post.tags or ())]
        counts.update(types)
        counts.update({"all": len(types), "posts": 1, "readable": any(image.ok for image in post.images)})
    return splits


def _scores(runs: RunSet, paper: Published, table: str, trained_on: str, scored_on: str) -> Table:
    crossed = trained_on != scored_on
    key = f"{trained_on} > {scored_on}" if crossed else scored_on
    known = trained_on in runs.posts and scored_on in runs.posts
    types = runs.types(scored_on) if known else paper.types
    printed = paper.scores[table].get(key) if set(types) == set(paper.types) else None
    sides = ("paper", "ours") if printed else ("ours",)
    columns = tuple(Column(name, side) for side in sides for name in (*types, *OVERALL))
    rows = []
    for group, approaches in paper.rows[table].items():
        for approach in approaches:
            theirs = _paper_cells(printed.get(approach), types, paper.types) if printed else ()
            ours = _our_cells(runs.metrics(trained_on, approach, scored_on) if known else [], types)
            remark = runs.why(trained_on, approach, scored_on)
            rows.append(Row(paper.name(approach), (*theirs, *ours), group, remark))
    title = f"{TITLES[table]}, {paper.dataset(trained_on)}"
    title += f" to {paper.dataset(scored_on)}" if crossed else ""
    title += f", {runs.split(scored_on)} split" if known else ""
    notes = tuple(_notes(runs, paper, table, trained_on, bool(printed)))
    return Table(f"{table}-{key.replace(' > ', '-to-')}", title, columns, tuple(rows), notes)


def _notes(runs: RunSet, paper: Published, table: str, dataset: str, printed: bool) -> Iterator[str]:
    if dataset in runs.posts and runs.seeds:
        seeds = ", ".join(map(str, runs.seeds))
        several = f"mean ± standard deviation over {len(runs.seeds)} seeds ({seeds})"
        yield f"Ours: strict entities; {several if len(runs.seeds) > 1 else f'one seed ({seeds})'}."
        if any(one.get("synthetic") for name in runs.present(dataset) for one in runs.metrics(dataset, name)):
            yield "Synthetic parts were used: these figures compare settings and say nothing about photographs."
    if not printed:
        yield "The paper has no figures for this dataset."
    elif table in paper.notes:
        yield paper.notes[table]
    yield from runs.notes.get(dataset, ())


def _paper_cells(figures: Sequence[float] | None, types: Sequence[str], order: Sequence[str]) -> tuple[Cell, ...]:
    """The paper's row, its types in our order."""
    if figures is None:
        return (None,) * (len(types) + len(OVERALL))
    by_type = dict(zip(order, figures, strict=False))
    return (*(Number(by_type[name]) for name in types), *(Number(value) for value in figures[-len(OVERALL) :]))


def _our_cells(metrics: Sequence[Mapping[str, Any]], types: Sequence[str]) -> tuple[Cell, ...]:
    strict = [one["strict"] for one in metrics]
    by_type = (mean([100 * one["types"][name]["f1"] for one in strict if name in one["types"]]) for name in types)
    return (*by_type, *(mean([100 * one["micro"][name] for one in strict]) for name in OVERALL.values()))

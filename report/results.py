"""Tables 1 to 5: the paper's figures beside ours, mean and sample standard deviation over seeds. Scores are percent.

The paper's figures are read from `paper.yaml`, those of Table 3 from the file that `python -m bench.fusion` writes.
"""

import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import FiniteFloat

from cache.run_files import read_object
from report.layout import Cell, Column, Number, Row, Table, mean
from report.runs import RunSet
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
    table3: dict[str, tuple[float, float]]  # speed relative to UMGF, millions of parameters
    scores: dict[str, dict[str, dict[str, tuple[float, ...]]]]  # F1 of each type, then P, R and F1 of all

    def name(self, approach: str) -> str:
        return self.names.get(approach, approach)

    def approaches(self, *tables: str) -> list[str]:
        """The approaches in the rows of some tables, each once."""
        return list(dict.fromkeys(name for table in tables for group in self.rows[table].values() for name in group))


@functools.cache
def published() -> Published:
    return Published.checked(yaml.safe_load(FILE.read_text(encoding="utf-8")), "", file=str(FILE))


class FusionRow(Config, extra="ignore"):
    """Figures of one interaction module: seconds for a batch, parameters, speed relative to UMGF."""

    approach: str
    seconds: FiniteFloat
    speedup: FiniteFloat
    parameters: FiniteFloat
    padded_speedup: FiniteFloat | None = None  # relative to UMGF as its code runs, padded


class Fusion(Config, extra="ignore"):
    rows: tuple[FusionRow, ...]
    notes: tuple[str, ...] = ()


def read_fusion(path: Path) -> Fusion:
    """The measurements in a file; none if it does not exist. Raises RunError for a damaged file."""
    if not path.exists():
        return Fusion(rows=())
    values = read_object(path, MEASURE_AGAIN)
    try:
        return Fusion.checked(values, "", file=str(path))
    except ConfigError as error:
        raise RunError(f"not an output of `python -m bench.fusion`: {error}", todo=MEASURE_AGAIN) from None


def data_tables(runs: RunSet, paper: Published) -> list[Table]:
    """Table 1: entities by type, and posts, of each split of each dataset."""
    tables = []
    for dataset in dict.fromkeys([*runs.posts, *paper.table1]):
        theirs = paper.table1.get(dataset, {})
        ours = count_splits(runs, dataset) if dataset in runs.posts else {}
        types = runs.table(dataset).labels.types if ours else paper.types
        splits = [name for name in ("train", "dev", "test") if name in ours or name in theirs]
        sides = [("paper", theirs)] * bool(theirs) + [("ours", ours)]
        columns = tuple(Column(name, side) for side, _ in sides for name in splits)
        rows = []
        for key, label in {**{name: name for name in types}, **COUNTS}.items():
            values = [counts.get(split, {}).get(key) for _, counts in sides for split in splits]
            rows.append(Row(label, tuple(None if value is None else Number(value, digits=0) for value in values)))
        note = "Ours: strict entities; an I- tag without B- starts none." if ours else f"No posts of {dataset} here."
        title = f"Table 1: {paper.datasets.get(dataset, dataset)}"
        notes = (*runs.notes.get(dataset, ()), note)
        tables.append(Table(f"table1-{dataset}", title, columns, rows, notes))
    return tables


def count_splits(runs: RunSet, dataset: str) -> dict[str, Counter[str]]:
    """Strict entities of each split by type, and under the keys of `COUNTS`."""
    splits: dict[str, Counter[str]] = {}
    for post in runs.table(dataset).posts:
        counts = splits.setdefault(post.split, Counter(dict.fromkeys((*runs.table(dataset).labels.types, *COUNTS), 0)))
        types = [entity.type for entity in entities(post.tags or ())]
        counts.update(types)
        counts.update({"all": len(types), "posts": 1, "readable": any(image.ok for image in post.images)})
    return splits


def speed_table(fusion: Fusion, paper: Published) -> Table:
    """Table 3: speed and parameters of the interaction modules relative to UMGF's."""
    names = ("ms", "speedup", "parameters, M", "speedup, padded baselines")
    measured = {row.approach: row for row in fusion.rows}
    rows = []
    for name in dict.fromkeys([*paper.table3, *measured]):
        cells: list[Cell] = [None] * 6
        if name in paper.table3:
            speedup, parameters = paper.table3[name]
            cells[:2] = Number(speedup), Number(parameters, digits=0)
        if row := measured.get(name):
            cells[2:5] = Number(row.seconds * 1000), Number(row.speedup), Number(row.parameters / 1e6)
            cells[5] = None if row.padded_speedup is None else Number(row.padded_speedup)
        remark = "" if row else "not measured: see `python -m bench.fusion`"
        rows.append(Row(paper.name(name), cells, "", remark))
    columns = (*(Column(name, "paper") for name in names[1:3]), *(Column(name, "ours") for name in names))
    notes = (paper.notes["table3"], *fusion.notes)
    return Table("table3", "Table 3: interaction modules at inference", columns, rows, notes)


def score_tables(runs: RunSet, paper: Published, table: str) -> list[Table]:
    """Table 2 or 5 for each dataset, or Table 4 for each pair of datasets (trained on, scored on)."""
    pairs = [(name, name) for name in dict.fromkeys([*runs.posts, *paper.datasets])]
    if table == "table4":
        scored = {f"{name} > {other}" for (name, _, _), folders in runs.runs.items() for other in {*folders} - {name}}
        names = [*sorted(scored), *paper.scores["table4"]]
        pairs = [(pair[0], pair[1]) for pair in (name.split(" > ") for name in dict.fromkeys(names))]
    return [_score_table(runs, paper, table, *pair) for pair in pairs]


def _score_table(runs: RunSet, paper: Published, table: str, trained_on: str, scored_on: str) -> Table:
    key = scored_on if trained_on == scored_on else f"{trained_on} > {scored_on}"
    is_known = trained_on in runs.posts and scored_on in runs.posts
    types = runs.table(scored_on).labels.types if is_known else paper.types
    theirs = paper.scores[table].get(key, {}) if set(types) == set(paper.types) else {}
    sides = ("paper", "ours") if theirs else ("ours",)
    columns = tuple(Column(name, side) for side in sides for name in (*types, *OVERALL))
    rows = []
    for group, approaches in paper.rows[table].items():
        for approach in approaches:
            cells: list[Cell] = []
            if theirs:
                figures = dict(zip((*paper.types, *OVERALL), theirs.get(approach, ()), strict=False))
                cells += [Number(figures[name]) if figures else None for name in (*types, *OVERALL)]
            metrics = runs.metrics(trained_on, approach, scored_on) if is_known else []
            scores = [values["strict"]["types"] | {"": values["strict"]["micro"]} for values in metrics]
            for type_, name in [*((type_, "f1") for type_ in types), *(("", name) for name in OVERALL.values())]:
                cells.append(mean([100 * values[type_][name] for values in scores if type_ in values]))
            rows.append(Row(paper.name(approach), cells, group, runs.remark(trained_on, approach, scored_on)))
    datasets = [paper.datasets.get(name, name) for name in dict.fromkeys((trained_on, scored_on))]
    title = f"{TITLES[table]}, {' to '.join(datasets)}" + (f", {runs.split(scored_on)} split" if is_known else "")
    notes = [paper.notes[table]] if table in paper.notes else []
    notes = notes if theirs else ["The paper has no figures for this dataset."]
    notes = [*_our_notes(runs, trained_on), *notes, *runs.notes.get(trained_on, ())]
    return Table(f"{table}-{key.replace(' > ', '-to-')}", title, columns, rows, notes)


def _our_notes(runs: RunSet, dataset: str) -> Iterator[str]:
    if dataset in runs.posts and runs.seeds:
        seeds = ", ".join(map(str, runs.seeds))
        several = f"mean ± standard deviation over {len(runs.seeds)} seeds ({seeds})"
        yield f"Ours: strict entities; {several if len(runs.seeds) > 1 else f'one seed ({seeds})'}."
        if any(values.get("synthetic") for name in runs.scored(dataset) for values in runs.metrics(dataset, name)):
            yield "Synthetic models were used: these figures compare settings and say nothing about photographs."

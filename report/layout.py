"""A table as a value: Markdown, CSV and the page are written from the same cells."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from report.pages import safe_text
from report.tables import csv_text
from schema.records import Entity

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Number:
    """A value, perhaps with its standard deviation over seeds, shown with `digits` decimals."""

    value: float
    sd: float | None = None
    digits: int = 2

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:,.{self.digits}f}"
        return f"{self.value:,.{self.digits}f}{spread}"


Cell = Number | str | None  # None: no such figure


@dataclass(frozen=True, slots=True)
class Column:
    """A column; adjacent columns of one group (`paper`, `ours`, "") share a heading."""

    name: str
    group: str = ""

    @property
    def title(self) -> str:
        return f"{self.group} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class Row:
    """A row; adjacent rows of one group share a heading; `remark` says why figures are missing."""

    label: str
    cells: tuple[Cell, ...]
    group: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Table:
    """`name` is that of its file; `columns` are those of `Row.cells`, to the right of the row's label."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_ours(self) -> bool:
        """Whether the table has any figure that is not the paper's."""
        ours = [index for index, column in enumerate(self.columns) if column.group != "paper"]
        return any(row.cells[index] is not None for row in self.rows for index in ours)

    def heads(self) -> list[tuple[str, int]]:
        """Groups of columns with the number of their columns, in order."""
        return [(name, len(list(some))) for name, some in groupby(column.group for column in self.columns)]


def mean(values: Sequence[float], digits: int = 2) -> Number | None:
    """Mean and sample standard deviation (none for a single value); None without values."""
    if not values:
        return None
    return Number(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, digits)


def shown(cell: Cell) -> str:
    """A cell as text."""
    return NOTHING if cell is None else safe_text(cell)


def entity_text(words: Sequence[str], entity: Entity) -> str:
    """An entity as text: `Ada Lovelace PER`."""
    return safe_text(f"{' '.join(words[entity.span.start : entity.span.end])} {entity.type}")


def markdown(table: Table) -> str:
    """The table with a heading above and notes below; nothing in a cell is read as Markdown or HTML."""
    remarks = any(row.remark for row in table.rows)
    head = ["", *(column.title for column in table.columns), *(["remark"] if remarks else [])]
    lines = [f"### {_plain(table.title)}", "", _line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for group, rows in groupby(table.rows, lambda row: row.group):
        if group:
            lines.append(_line([group, *[""] * (len(head) - 1)], "**"))
        lines += [_line([row.label, *map(shown, row.cells), *([row.remark] if remarks else [])]) for row in rows]
    return "\n".join([*lines, "", *(f"- {_plain(note)}" for note in table.notes), *([""] if table.notes else [])])


def csv(table: Table) -> str:
    """The table as CSV; a column with standard deviations is followed by a column of them."""
    records: list[dict[str, object]] = []
    for row in table.rows:
        record: dict[str, object] = {"group": row.group, "row": row.label, "remark": row.remark}
        for column, cell in zip(table.columns, row.cells, strict=True):
            record[column.title] = round(cell.value, 6) if isinstance(cell, Number) else cell
            if isinstance(cell, Number) and cell.sd is not None:
                record[f"{column.title} sd"] = round(cell.sd, 6)
        records.append(record)
    present = {name for record in records for name in record}
    names = [name for column in table.columns for name in (column.title, f"{column.title} sd")]
    titles = {column.title for column in table.columns}
    return csv_text(("group", "row", *(n for n in names if n in titles or n in present), "remark"), records)


def _plain(text: str) -> str:
    """Text without links, code, elements and ends of cells."""
    return re.sub(r"([\\|`\[\]])", r"\\\1", safe_text(text, None)).replace("<", "&lt;")


def _line(cells: Sequence[str], mark: str = "") -> str:
    """A row of cells, `mark` around the first."""
    first, *others = map(_plain, cells)
    return f"| {' | '.join([f'{mark}{first}{mark}', *others])} |"

"""A table as a value, before anybody decides how it looks: Markdown, CSV and the page are made of the same cells."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from report.pages import safe_text
from report.tables import csv_text

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Number:
    """A mean, perhaps with its standard deviation over seeds; `digits` behind the point are shown."""

    value: float
    sd: float | None = None
    digits: int = 2

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:,.{self.digits}f}"
        return f"{self.value:,.{self.digits}f}{spread}"


Cell = Number | str | None  # None: there is no such figure


@dataclass(frozen=True, slots=True)
class Column:
    """A column; those of one group (`paper`, `ours`, "") stand under one head."""

    name: str
    group: str = ""

    @property
    def title(self) -> str:
        return f"{self.group} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a group of rows; `remark` says why figures are missing, or what they are."""

    label: str
    cells: tuple[Cell, ...]
    group: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Table:
    """`name` is that of its file; `columns` are those of `Row.cells`, behind the row's label."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_ours(self) -> bool:
        """Whether any figure is there that the paper does not bring along."""
        ours = [index for index, column in enumerate(self.columns) if column.group != "paper"]
        return any(row.cells[index] is not None for row in self.rows for index in ours)

    def heads(self) -> list[tuple[str, int]]:
        """Groups of columns with their widths, in order."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and found[-1][0] == column.group:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return found


def mean(values: Sequence[float], digits: int = 2) -> Number | None:
    """Mean and sample standard deviation (none for a single value); None without values."""
    if not values:
        return None
    return Number(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, digits)


def shown(cell: Cell) -> str:
    """A cell as text."""
    return NOTHING if cell is None else safe_text(cell)


def markdown(table: Table) -> str:
    """The table under a heading, its notes below; a bar or a line end in a cell cannot break it."""
    remarks = any(row.remark for row in table.rows)
    head = ["", *(_plain(column.title) for column in table.columns), *(["remark"] if remarks else [])]
    lines = [f"### {_plain(table.title)}", "", _line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    group = ""
    for row in table.rows:
        if row.group != group:
            group = row.group
            lines.append(_line([f"**{_plain(group)}**", *[""] * (len(head) - 1)]))
        cells = [row.label, *map(shown, row.cells), *([row.remark] if remarks else [])]
        lines.append(_line(list(map(_plain, cells))))
    return "\n".join([*lines, "", *(f"- {_plain(note)}" for note in table.notes), *([""] if table.notes else [])])


def csv(table: Table) -> str:
    """One row a row; a column with standard deviations is followed by one that holds them."""
    spread = {
        column.title
        for at, column in enumerate(table.columns)
        if any(isinstance(cell := row.cells[at], Number) and cell.sd is not None for row in table.rows)
    }
    names = [name for column in table.columns for name in _names(column.title, spread)]
    return csv_text(("group", "row", *names, "remark"), list(_csv_rows(table, spread)))


def _csv_rows(table: Table, spread: set[str]) -> Iterator[dict[str, object]]:
    for row in table.rows:
        found: dict[str, object] = {"group": row.group, "row": row.label, "remark": row.remark}
        for column, cell in zip(table.columns, row.cells, strict=True):
            if isinstance(cell, Number):
                found[column.title] = round(cell.value, 6)
                if column.title in spread and cell.sd is not None:
                    found[f"{column.title} sd"] = round(cell.sd, 6)
            else:
                found[column.title] = cell
        yield found


def _names(title: str, spread: set[str]) -> Iterable[str]:
    return (title, f"{title} sd") if title in spread else (title,)


def _plain(text: str) -> str:
    """Text in which nothing is a link, code, an element, or the end of a cell."""
    return re.sub(r"([\\|`\[\]])", r"\\\1", safe_text(text, None)).replace("<", "&lt;")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

"""A table as a value: Markdown, CSV and the page are written from the same cells."""

import csv
import io
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from schema.records import Entity, Span
from schema.text import guarded, safe_text


class Number(NamedTuple):
    """A value, perhaps with its standard deviation over seeds, shown with `digits` decimals."""

    value: float
    sd: float | None = None
    digits: int = 2

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:,.{self.digits}f}"
        return f"{self.value:,.{self.digits}f}{spread}"


Cell = Number | str | None  # None: no value


class Column(NamedTuple):
    """A column; adjacent columns of one group (`paper`, `ours`, "") share a heading."""

    name: str
    group: str = ""

    @property
    def title(self) -> str:
        return f"{self.group} {self.name}".strip()


class Row(NamedTuple):
    """A row; adjacent rows of one group share a heading; `remark` says why values are missing."""

    label: str
    cells: Sequence[Cell]
    group: str = ""
    remark: str = ""


class Table(NamedTuple):
    """`name` is that of its file; `columns` are those of `Row.cells`, to the right of the row's label."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()

    @property
    def has_ours(self) -> bool:
        """Whether the table has any value that is not the paper's."""
        ours = [index for index, column in enumerate(self.columns) if column.group != "paper"]
        return any(row.cells[index] is not None for row in self.rows for index in ours)

    def column_groups(self) -> list[tuple[str, int]]:
        """Groups of columns with the number of their columns, in order."""
        return [(name, len(list(columns))) for name, columns in groupby(column.group for column in self.columns)]


def mean(values: Sequence[float], digits: int = 2) -> Number | None:
    """Mean and sample standard deviation (none for a single value); None without values."""
    if not values:
        return None
    return Number(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, digits)


def span_text(words: Sequence[str], span: Span) -> str:
    return " ".join(words[span.start : span.end])


def entity_text(words: Sequence[str], entity: Entity) -> str:
    """An entity as text: `Ada Lovelace PER`."""
    return safe_text(f"{span_text(words, entity.span)} {entity.type}")


def markdown(table: Table) -> str:
    """The table with a heading above and notes below; nothing in a cell is read as Markdown or HTML."""
    remarks = any(row.remark for row in table.rows)
    head = ["", *(column.title for column in table.columns), *(["remark"] if remarks else [])]
    lines = [f"### {_plain(table.title)}", "", _line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for group, rows in groupby(table.rows, lambda row: row.group):
        if group:
            lines.append(_line([f"**{group}**", *[""] * (len(head) - 1)]))
        for row in rows:
            cells = ["–" if cell is None else safe_text(cell) for cell in row.cells]
            lines.append(_line([row.label, *cells, *([row.remark] if remarks else [])]))
    return "\n".join([*lines, "", *(f"- {_plain(note)}" for note in table.notes), *([""] if table.notes else [])])


def table_csv(table: Table) -> str:
    """The table as CSV; a column with standard deviations is followed by a column of them."""
    titles = [column.title for column in table.columns]
    records: list[dict[str, object]] = []
    for row in table.rows:
        record: dict[str, object] = {"group": row.group, "row": row.label, "remark": row.remark}
        for title, cell in zip(titles, row.cells, strict=True):
            record[title] = round(cell.value, 6) if isinstance(cell, Number) else cell
            if isinstance(cell, Number) and cell.sd is not None:
                record[f"{title} sd"] = round(cell.sd, 6)
        records.append(record)
    present = {*titles, *(name for record in records for name in record)}
    names = [name for title in titles for name in (title, f"{title} sd") if name in present]
    return csv_text(("group", "row", *names, "remark"), records)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """A CSV file with a header, `\\n` line ends and quoted text; no cell is a formula."""
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([guarded(row.get(name)) for name in columns] for row in rows)
    return file.getvalue()


def _plain(text: str) -> str:
    """Text in which Markdown finds no links, code, HTML or ends of cells."""
    return re.sub(r"([\\|`\[\]])", r"\\\1", safe_text(text, None)).replace("<", "&lt;")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"

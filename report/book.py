"""All tables and figures of a field, published as Markdown, CSV and one page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cache import atomic
from cache.run_files import refuse_strange
from report.breakdown import breakdown, calibration
from report.cases import LISTED, N_LISTED, TEXT_ONLY, Case, all_changes, choose, counted, figure3, figure4
from report.field import Field
from report.figures import paired_bars, reliability_plot
from report.layout import Table, csv, markdown
from report.pages import write_page
from report.results import Published, table1, table2, table3, table4, table5
from report.tables import csv_text
from report.thumbnails import Album, Loader

PAGE = "index.html"
TOGETHER = "tables.md"
WRITTEN = r"index\.html|tables\.md|(table\d|figure\d|calibration|breakdown|grounding).*\.csv"  # names in its folder
BARS = ("corrected", "broken")
TINY = (
    "TINY SETTINGS: few drawn posts, few epochs, one seed. The figures prove that they can be made, and nothing else."
)


@dataclass(frozen=True)
class Plot:
    """A picture of the page."""

    title: str
    svg: Markup


@dataclass
class Section:
    """A part of the page: tables, plots, and posts of Figure 3 with their pictures (data URIs, None: none)."""

    name: str
    title: str
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    cases: list[tuple[Table, str | None]] = field(default_factory=list)
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Book:
    """Sections in order, and files of lists by name."""

    sections: tuple[Section, ...]
    files: Mapping[str, str]
    tiny: bool
    source: str

    @property
    def tables(self) -> list[Table]:
        return [one for part in self.sections for one in [*part.tables, *(table for table, _ in part.cases)]]


def compile_book(
    field: Field,
    paper: Published,
    loaders: Mapping[str, Loader],
    *,
    fusion: Mapping[str, Any] | None = None,
    more: Sequence[Table] = (),
    n_cases: int = 8,
    redact: bool = False,
) -> Book:
    """Every table and figure that the field's runs allow.

    `loaders` give the pictures of each dataset; `fusion` is what bench.fusion measured; `more` are further tables
    (grounding quality). `redact` hides @names, links and pictures.
    """
    scored = [name for name in field.datasets if field.present(name)]
    files: dict[str, str] = {}
    sections = [
        Section("table1", "Table 1: data", table1(field, paper)),
        Section("table2", "Table 2: approaches", table2(field, paper)),
        Section("table3", "Table 3: speed and size", table3(fusion, paper)),
        Section("table4", "Table 4: cross-domain", table4(field, paper)),
        Section("table5", "Table 5: ablations", table5(field, paper)),
        Section("figure3", "Figure 3: posts"),
        Section("figure4", "Figure 4: against bert-crf", keys=BARS),
        Section("calibration", "Calibration"),
        Section("breakdown", "F1 by kind of entity and post"),
        Section("grounding", "Grounding quality", list(more)),
    ]
    by_name = {one.name: one for one in sections}
    for dataset in scored:
        _cases(by_name["figure3"], field, paper, dataset, loaders.get(dataset), n_cases, redact)
        files |= _corrections(by_name["figure4"], field, paper, dataset, redact)
        table, plots = calibration(field, paper, dataset)
        by_name["calibration"].tables.append(table)
        by_name["calibration"].plots += [Plot(f"{dataset}, {name}", reliability_plot(bins)) for name, bins in plots]
        by_name["breakdown"].tables.append(breakdown(field, paper, dataset))
    return Book(tuple(sections), files, field.tiny, paper.source)


def publish(book: Book, out: Path) -> list[Path]:
    """Write `tables.md`, a CSV of each table, lists and `index.html` into the folder `out`, replacing it as a whole.

    Raises RunError, and leaves it as it is, where it holds anything else.
    """
    refuse_strange(out, WRITTEN)
    texts = [f"# Tables and figures\n\nThe paper's: {book.source}.\n"]
    if book.tiny:
        texts.insert(0, f"**{TINY}**\n")
    for part in book.sections:
        tables = [*part.tables, *(table for table, _ in part.cases)]
        texts.append(f"## {part.title}\n")
        texts += [markdown(table) for table in tables] or ["Nothing to show: no runs for it.\n"]
    with atomic.folder(out) as folder:
        (folder / TOGETHER).write_text("\n".join(texts), encoding="utf-8")
        for table in book.tables:
            (folder / f"{table.name}.csv").write_text(csv(table), encoding="utf-8")
        for name, text in book.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        write_page(folder / PAGE, "tables.html.jinja", (), book=book, tiny=TINY, data="{}")
    return [out / PAGE, out / TOGETHER]


def _cases(
    part: Section, field: Field, paper: Published, dataset: str, load: Loader | None, n_cases: int, redact: bool
) -> None:
    cases = choose(field, dataset, n_cases, redact=redact)
    album = Album(load, len(cases)) if load and not redact else None
    for case, table in zip(cases, figure3(cases, paper), strict=True):
        part.cases.append((table, _picture(case, album)))


def _picture(case: Case, album: Album | None) -> str | None:
    picture = case.picture
    if album is None or picture is None:
        return None
    place = album.place(picture.name, picture.digest)
    return None if place is None else album.uris[place]


def _corrections(part: Section, field: Field, paper: Published, dataset: str, redact: bool) -> dict[str, str]:
    if not field.of(dataset, TEXT_ONLY):
        return {}
    found = all_changes(field, dataset, redact=redact)
    part.tables.append(figure4(field, paper, dataset, found))
    means = {
        paper.name(name): [round(statistics.mean(corrected), 1), round(statistics.mean(broken), 1)]
        for name, (corrected, broken) in counted(field, dataset, found).items()
    }
    part.plots.append(Plot(f"{dataset}: entities against bert-crf", paired_bars(f"entities, {dataset}", means, BARS)))
    rows = [one.to_row() for one in found[:N_LISTED]]
    return {f"figure4-{dataset}-entities.csv": csv_text(LISTED, rows)}

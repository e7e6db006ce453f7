"""All tables and figures of a set of runs: Markdown, a CSV file of each table, and one page."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from cache import atomic
from cache.run_files import refuse_strange
from report.breakdown import breakdown, calibration, grounding_quality
from report.cases import LISTED, N_LISTED, all_changes, choose, counted, figure3, figure4
from report.figures import paired_bars, reliability_plot
from report.grounding import GoldBoxes
from report.layout import Table, csv, markdown
from report.pages import write_page
from report.results import Fusion, Published, table1, table2, table3, table4, table5
from report.run_set import TEXT_ONLY, RunSet
from report.tables import csv_text
from report.thumbnails import Loader, Thumbnails
from schema.prediction import Prediction

PAGE = "index.html"
TOGETHER = "tables.md"
WRITTEN = r"index\.html|tables\.md|(table\d|figure\d|calibration|breakdown|grounding).*\.csv"  # file names
N_CASES = 8  # posts of Figure 3
BARS = ("corrected", "broken")


@dataclass
class Section:
    """A section of the page: tables, plots (title, SVG), and posts of Figure 3 (table, image as a data URI or None)."""

    name: str
    title: str
    tables: list[Table] = field(default_factory=list)
    plots: list[tuple[str, Markup]] = field(default_factory=list)
    cases: list[tuple[Table, str | None]] = field(default_factory=list)
    keys: tuple[str, ...] = ()

    @property
    def all_tables(self) -> list[Table]:
        return [*self.tables, *(table for table, _ in self.cases)]


@dataclass(frozen=True)
class Document:
    """The sections in order, and further CSV files by name; `source` names the paper."""

    sections: tuple[Section, ...]
    files: Mapping[str, str]
    source: str


@dataclass(frozen=True)
class Sources:
    """What is known of a dataset beside its runs: a loader of its images, and gold boxes for predictions, if any."""

    load: Loader | None = None
    gold_boxes: Callable[[list[Prediction]], GoldBoxes] | None = None


def build(
    runs: RunSet,
    paper: Published,
    sources: Mapping[str, Sources],
    *,
    fusion: Fusion | None = None,
    redact: bool = False,
) -> Document:
    """Every table and figure that the runs allow; `redact` hides @names, links and images."""
    sections = [
        Section("table1", "Table 1: data", table1(runs, paper)),
        Section("table2", "Table 2: approaches", table2(runs, paper)),
        Section("table3", "Table 3: speed and size", table3(fusion, paper)),
        Section("table4", "Table 4: cross-domain", table4(runs, paper)),
        Section("table5", "Table 5: ablations", table5(runs, paper)),
    ]
    cases = Section("figure3", "Figure 3: posts")
    changes = Section("figure4", f"Figure 4: against {TEXT_ONLY}", keys=BARS)
    calibrated = Section("calibration", "Calibration")
    breakdowns = Section("breakdown", "F1 by kind of entity and post")
    grounded = Section("grounding", "Grounding quality")
    files: dict[str, str] = {}
    for dataset in [name for name in runs.datasets if runs.present(name)]:
        source = sources.get(dataset, Sources())
        cases.cases += _cases(runs, paper, dataset, source.load, redact)
        files |= _add_changes(changes, runs, paper, dataset, redact)
        table, plots = calibration(runs, paper, dataset)
        calibrated.tables.append(table)
        calibrated.plots += [(f"{dataset}, {name}", reliability_plot(bins)) for name, bins in plots]
        breakdowns.tables.append(breakdown(runs, paper, dataset))
        if source.gold_boxes:
            grounded.tables.append(grounding_quality(runs, paper, dataset, source.gold_boxes))
    return Document((*sections, cases, changes, calibrated, breakdowns, grounded), files, paper.source)


def publish(document: Document, out: Path) -> list[Path]:
    """Replace the folder `out` with `tables.md`, the CSV files and `index.html`; returns the page and the Markdown.

    Raises RunError, and changes nothing, if the folder contains files of another origin.
    """
    refuse_strange(out, WRITTEN)
    texts = [f"# Tables and figures\n\nThe paper: {document.source}.\n"]
    for section in document.sections:
        texts.append(f"## {section.title}\n")
        texts += [markdown(table) for table in section.all_tables] or ["No runs for this section.\n"]
    with atomic.folder(out) as folder:
        (folder / TOGETHER).write_text("\n".join(texts), encoding="utf-8")
        for table in [one for section in document.sections for one in section.all_tables]:
            (folder / f"{table.name}.csv").write_text(csv(table), encoding="utf-8")
        for name, text in document.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        write_page(folder / PAGE, "tables.html.jinja", (), document=document, data="{}")
    return [out / PAGE, out / TOGETHER]


def _cases(
    runs: RunSet, paper: Published, dataset: str, load: Loader | None, redact: bool
) -> list[tuple[Table, str | None]]:
    cases = choose(runs, dataset, N_CASES)
    thumbnails = Thumbnails(load, len(cases)) if load and not redact else None
    uris = []
    for lines in cases:
        image = next((image for image in next(iter(lines.values())).post.images if image.ok), None)
        index = thumbnails.index(image.name, image.digest) if thumbnails and image else None
        uris.append(thumbnails.uris[index] if thumbnails and index is not None else None)
    return list(zip(figure3(cases, paper, dataset, redact=redact), uris, strict=True))


def _add_changes(section: Section, runs: RunSet, paper: Published, dataset: str, redact: bool) -> dict[str, str]:
    """Add Figure 4 of a dataset to its section; returns the file that lists the entities."""
    if not runs.of(dataset, TEXT_ONLY):
        return {}
    changes = all_changes(runs, dataset, redact=redact)
    section.tables.append(figure4(runs, paper, dataset, changes))
    bars = {
        paper.name(name): [round(statistics.mean(corrected), 1), round(statistics.mean(broken), 1)]
        for name, (corrected, broken) in counted(runs, dataset, changes).items()
    }
    title = f"{dataset}: entities against {TEXT_ONLY}"
    section.plots.append((title, paired_bars(f"entities, {dataset}", bars, BARS)))
    rows = [one.to_row() for one in changes[:N_LISTED]]
    return {f"figure4-{dataset}-entities.csv": csv_text(LISTED, rows)}

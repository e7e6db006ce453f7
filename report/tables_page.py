"""All tables and figures of a set of runs: Markdown, a CSV file of each table, and one page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from cache import atomic
from cache.run_files import refuse_strange
from report.breakdown import breakdown, calibration, grounding_quality
from report.cases import KINDS, N_LISTED, Change, choose, figure3, figure4
from report.figures import paired_bars, reliability_plot
from report.grounding import GoldBoxes
from report.layout import Table, csv_text, markdown, table_csv
from report.pages import Loader, thumbnails, write_page
from report.results import Fusion, Published, data_tables, score_tables, speed_table
from report.runs import TEXT_ONLY, RunSet
from schema.prediction import Prediction

WRITTEN = r"index\.html|tables\.md|(table\d|figure\d|calibration|breakdown|grounding).*\.csv"  # file names
N_CASES = 8  # posts of Figure 3


@dataclass
class Section:
    """A section of the page: tables, plots (title, SVG), and posts of Figure 3 (table, image as a data URI or None)."""

    name: str
    title: str
    tables: list[Table] = field(default_factory=list)
    plots: list[tuple[str, Markup]] = field(default_factory=list)
    cases: list[tuple[Table, str | None]] = field(default_factory=list)
    keys: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # further CSV files

    @property
    def all_tables(self) -> list[Table]:
        return [*self.tables, *(table for table, _ in self.cases)]


def build(
    runs: RunSet,
    paper: Published,
    loaders: Mapping[str, Loader],
    gold_boxes: Mapping[str, Callable[[list[Prediction]], GoldBoxes]],
    fusion: Fusion,
    *,
    redact: bool = False,
) -> list[Section]:
    """Every table and figure that the runs allow; loaders of images and functions to gold boxes are by dataset."""
    sections = [
        Section("table1", "Table 1: data", data_tables(runs, paper)),
        Section("table2", "Table 2: approaches", score_tables(runs, paper, "table2")),
        Section("table3", "Table 3: speed and size", [speed_table(fusion, paper)]),
        Section("table4", "Table 4: cross-domain", score_tables(runs, paper, "table4")),
        Section("table5", "Table 5: ablations", score_tables(runs, paper, "table5")),
    ]
    cases = Section("figure3", "Figure 3: posts")
    changes = Section("figure4", f"Figure 4: against {TEXT_ONLY}", keys=KINDS)
    calibrated = Section("calibration", "Calibration")
    breakdowns = Section("breakdown", "F1 by kind of entity and post")
    grounded = Section("grounding", "Grounding quality")
    for dataset in [name for name in runs.posts if runs.scored(name)]:
        disagreements = choose(runs, dataset, N_CASES)
        posts = [next(iter(case.values())).post for case in disagreements]
        images = [next((image for image in post.images if image.ok), None) for post in posts]
        load = None if redact else loaders.get(dataset)
        uris = thumbnails([image for image in images if image], load) if load else {}
        shown = [uris.get(image.digest or image.name) if image else None for image in images]
        cases.cases += zip(figure3(disagreements, paper, dataset, redact=redact), shown, strict=True)
        if runs.folders(dataset, TEXT_ONLY):
            table, bars, listed = figure4(runs, paper, dataset, redact=redact)
            changes.tables.append(table)
            title = f"{dataset}: entities against {TEXT_ONLY}"
            changes.plots.append((title, paired_bars(f"entities, {dataset}", bars, KINDS)))
            rows = [change._asdict() for change in listed[:N_LISTED]]
            changes.files[f"figure4-{dataset}-entities.csv"] = csv_text(Change._fields, rows)
        table, plots = calibration(runs, paper, dataset)
        calibrated.tables.append(table)
        calibrated.plots += [(f"{dataset}, {name}", reliability_plot(bins)) for name, bins in plots]
        breakdowns.tables.append(breakdown(runs, paper, dataset))
        if dataset in gold_boxes:
            grounded.tables.append(grounding_quality(runs, paper, dataset, gold_boxes[dataset]))
    return [*sections, cases, changes, calibrated, breakdowns, grounded]


def publish(sections: Sequence[Section], paper: Published, out: Path) -> list[Path]:
    """Replace the folder `out`, if it has no other files; returns the page and the Markdown."""
    refuse_strange(out, WRITTEN)
    texts = [f"# Tables and figures\n\nThe paper: {paper.source}.\n"]
    files: dict[str, str] = {}
    for section in sections:
        texts.append(f"## {section.title}\n")
        texts += [markdown(table) for table in section.all_tables] or ["No runs for this section.\n"]
        files |= {f"{table.name}.csv": table_csv(table) for table in section.all_tables} | section.files
    with atomic.folder(out) as folder:
        for name, text in {"tables.md": "\n".join(texts), **files}.items():
            (folder / name).write_text(text, encoding="utf-8")
        write_page(folder / "index.html", "tables.html.jinja", (), sections=sections, source=paper.source, data="{}")
    return [out / "index.html", out / "tables.md"]

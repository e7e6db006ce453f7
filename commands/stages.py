"""The stages of the pipeline: draw, ingest, phrases, ground, regions. One body: they differ in name and words."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.console import (
    RESUMES,
    STARTS_AGAIN,
    Examples,
    allow_synthetic_option,
    json_option,
    note,
    params_option,
    print_json,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from pipeline.corpus.stage import IngestReport


def stage(name: str, about: str, *, toys: bool = False, after: str = RESUMES) -> click.Command:
    """The command of a stage: `toys` lets parts trained on drawings see other pictures."""

    def body(dataset: str, params_path: Path, as_json: bool, **options: Any) -> None:
        from project import Project

        with progress(f"{name} {dataset}") as bar:
            done = getattr(Project.open(params_path), name)(dataset, bar, **options)
        if as_json:
            print_json({"stage": name, "dataset": dataset, **(figures(done) if name == "ingest" else asdict(done))})
            return
        if name == "ingest":
            tell(done, dataset)
        click.echo(done.line(dataset))

    for decorate in (json_option, params_option, *([allow_synthetic_option] if toys else [])):
        body = decorate(body)
    body = click.argument("dataset")(body)
    return click.command(name, cls=Examples, example=f"fmit {name} smoke", help=about, after=after)(body)


def tell(report: IngestReport, dataset: str) -> None:
    """The dataset in figures on stdout, what is odd about it on stderr."""
    head, *rows = report.rows()
    print_table(dataset, head, rows)
    for remark in report.remarks():
        note(remark)


def figures(report: IngestReport) -> dict[str, Any]:
    """What `tell` tells, for a machine."""
    return {"splits": report.counts.to_json(), "variant": report.variant, "remarks": report.remarks()}


@click.command(hidden=True)
@click.argument("dataset")
@params_option
def inputs(dataset: str, params_path: Path) -> None:
    """Write the digests of inputs that DVC does not see in data/DATASET: `inputs/DATASET/dvc.yaml` calls this."""
    from project import Project

    Project.open(params_path).inputs(dataset)


COMMANDS = (
    inputs,
    stage("draw", "Draw a dataset of the project's own into data/DATASET.", after=STARTS_AGAIN),
    stage("ingest", "Read posts and probe pictures of data/DATASET.", after=STARTS_AGAIN),
    stage("phrases", "Find the noun phrases of a dataset's posts."),
    stage("ground", "Find a box for each noun phrase and general word.", toys=True),
    stage("regions", "Compute features of pictures and boxes: the pack.", toys=True),
)

"""The stages of the pipeline as commands: draw, ingest, phrases, ground, regions."""

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


def stage(name: str, about: str, *, has_synthetic: bool = False, after: str = RESUMES) -> click.Command:
    """The command of a stage; `has_synthetic`: with the option --allow-synthetic."""

    def body(dataset: str, params_path: Path, as_json: bool, **options: Any) -> None:
        from project import Project

        with progress(f"{name} {dataset}") as bar:
            report = getattr(Project.open(params_path), name)(dataset, bar, **options)
        if as_json:
            figures = ingest_json(report) if name == "ingest" else asdict(report)
            print_json({"stage": name, "dataset": dataset, **figures})
            return
        if name == "ingest":
            print_ingest(report, dataset)
        click.echo(report.line(dataset))

    for decorate in (json_option, params_option, *([allow_synthetic_option] if has_synthetic else [])):
        body = decorate(body)
    body = click.argument("dataset")(body)
    return click.command(name, cls=Examples, example=f"fmit {name} smoke", help=about, after=after)(body)


def print_ingest(report: IngestReport, dataset: str) -> None:
    """The dataset's figures on stdout, remarks about it on stderr."""
    head, *rows = report.rows()
    print_table(dataset, head, rows)
    for remark in report.remarks():
        note(remark)


def ingest_json(report: IngestReport) -> dict[str, Any]:
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
    stage("draw", "Draw a synthetic dataset into data/DATASET.", after=STARTS_AGAIN),
    stage("ingest", "Read the posts and check the images of data/DATASET.", after=STARTS_AGAIN),
    stage("phrases", "Find the noun phrases of a dataset's posts."),
    stage("ground", "Find a box for each noun phrase and general word.", has_synthetic=True),
    stage("regions", "Compute the features of images and boxes: the pack.", has_synthetic=True),
)

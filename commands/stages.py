"""The stages of the pipeline: draw, ingest, phrases, ground, regions."""

from __future__ import annotations

from pathlib import Path

import click

from commands.console import Examples, allow_toy_option, params_option, print_table, progress

dataset_argument = click.argument("dataset")


@click.command(cls=Examples, example="fmit draw smoke")
@dataset_argument
@params_option
def draw(dataset: str, params_path: Path) -> None:
    """Draw a dataset of the project's own (posts and pictures) into data/DATASET."""
    from project import Project

    with progress(f"draw {dataset}") as bar:
        line = Project.open(params_path).draw(dataset, bar)
    click.echo(line)


@click.command(cls=Examples, example="fmit ingest smoke")
@dataset_argument
@params_option
def ingest(dataset: str, params_path: Path) -> None:
    """Read posts and probe pictures of data/DATASET into out/DATASET/posts.parquet."""
    from project import Project

    with progress(f"ingest {dataset}") as bar:
        report = Project.open(params_path).ingest(dataset, bar)
    head, *rows = report.rows()
    print_table(f"{dataset}", head, rows)
    for remark in report.remarks():
        click.echo(remark)
    click.echo(report.line(dataset))


@click.command(cls=Examples, example="fmit phrases smoke")
@dataset_argument
@params_option
def phrases(dataset: str, params_path: Path) -> None:
    """Find the noun phrases of a dataset's posts."""
    from project import Project

    with progress(f"phrases {dataset}") as bar:
        tally = Project.open(params_path).phrases(dataset, bar)
    click.echo(tally.line(dataset))


@click.command(cls=Examples, example="fmit ground smoke")
@dataset_argument
@params_option
@allow_toy_option
def ground(dataset: str, params_path: Path, allow_toy: bool) -> None:
    """Find a box for each noun phrase and general word in the posts' pictures."""
    from project import Project

    with progress(f"ground {dataset}") as bar:
        tally = Project.open(params_path).ground(dataset, bar, allow_toy=allow_toy)
    click.echo(tally.line(dataset))


@click.command(cls=Examples, example="fmit regions smoke")
@dataset_argument
@params_option
@allow_toy_option
def regions(dataset: str, params_path: Path, allow_toy: bool) -> None:
    """Compute the features of pictures and boxes and write the pack that training reads."""
    from project import Project

    with progress(f"regions {dataset}") as bar:
        tally = Project.open(params_path).regions(dataset, bar, allow_toy=allow_toy)
    click.echo(tally.line(dataset))


COMMANDS = (draw, ingest, phrases, ground, regions)

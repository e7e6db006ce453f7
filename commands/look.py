"""Looking at data: one post with all that the pipeline knows of it, a contact sheet of boxes, entities as a table."""

from __future__ import annotations

from pathlib import Path

import click

from commands.console import Examples, RunFolder, TableFile, params_option, redact_option

page_option = click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page.")


@click.command(cls=Examples, example="fmit show test-00001 --dataset smoke")
@click.argument("post_id")
@click.option("--dataset", required=True, help="A dataset of params.yaml.")
@page_option
@redact_option
@params_option
def show(post_id: str, dataset: str, page: Path | None, redact: bool, params_path: Path) -> None:
    """Show one post as the pipeline sees it.

    Words, parse view, phrases, boxes, images, and the objects of the lattice with head and tail.
    """
    from rich.console import Console

    import pages
    from project import Project
    from report import show

    if redact and not page:
        raise click.UsageError("--redact is for pages: give --html FILE too")
    project = Project.open(params_path)
    details, load_image = pages.post_details(project, dataset, post_id), pages.loader(project.images(dataset))
    if page:
        show.write_html(details, page, load_image=load_image, redact=redact)
        click.echo(f"open {page}")
    else:
        show.to_terminal(details, Console(), load_image=load_image)


@click.command(cls=Examples, example="fmit sheet smoke --out sheet.html")
@click.argument("dataset")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The page to write.")
@click.option(
    "--posts", "n_posts", type=click.IntRange(1), default=240, show_default=True, help="At most so many posts."
)
@redact_option
@params_option
def sheet(dataset: str, out: Path, n_posts: int, redact: bool, params_path: Path) -> None:
    """Write a page of a dataset's images with their boxes."""
    import pages
    from project import Project

    pages.sheet(Project.open(params_path), dataset, out, n_posts=n_posts, redact=redact)
    click.echo(f"open {out}")


@click.command(cls=Examples, example="fmit export --run runs/smoke-fmit-0 --out entities.csv")
@click.option("--run", "run", type=RunFolder(), required=True, help="A run's folder.")
@click.option("--out", type=TableFile(), required=True, help="A .csv or .json file.")
@redact_option
def export(run: Path, out: Path, redact: bool) -> None:
    """Write a run's gold and predicted entities as a table.

    One row an outcome (correct, wrong type, missed, ...); no cell of the CSV is a formula to a spreadsheet.
    """
    from report import errors

    click.echo(f"{errors.export(run, out, redact=redact)} entities in {out}")


COMMANDS = (show, sheet, export)

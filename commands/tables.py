"""`fmit tables`: the paper's tables and figures beside those of the project's runs."""

from __future__ import annotations

from pathlib import Path

import click

from commands.console import Examples, params_option, redact_option

ONLY = """Print these tables: 1 data, 2 approaches, 3 speed and size, 4 cross-domain, 5 ablations; may be repeated. All
are written.  [default: all]"""
FUSION = "What `python -m bench.fusion --out FILE` measured, for Table 3.  [default: fusion.json in the project]"


@click.command(cls=Examples, example="fmit tables --only 5")
@click.option("--only", type=click.Choice(("1", "2", "3", "4", "5")), multiple=True, help=ONLY)
@click.option("--fusion", type=click.Path(path_type=Path, dir_okay=False, exists=True), help=FUSION)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="[default: tables in the project]")
@redact_option
@params_option
def tables(only: tuple[str, ...], fusion: Path | None, out: Path | None, redact: bool, params_path: Path) -> None:
    """Write the paper's tables and figures beside those of the runs in runs/.

    A page, Markdown and CSV files: tables, posts on which approaches disagree, calibration, grounding quality. Nothing
    is trained: rows without runs say so. `dvc repro` trains and scores what params.yaml names.
    """
    import pages
    from project import Project
    from report.layout import markdown

    sections, files = pages.tables(Project.open(params_path), out, fusion=fusion, redact=redact)
    for section in sections:
        wanted = not only or section.name.removeprefix("table") in only
        for table in section.tables if wanted and section.name.startswith("table") else ():
            if table.has_ours:
                click.echo(markdown(table))
    for path in files:
        click.echo(f"open {path}")


COMMANDS = (tables,)

"""What the commands share: progress on stderr, tables and JSON on stdout, options that recur."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

Progress = Callable[[int, int], None]

params_option = click.option(
    "--params",
    "params_path",
    type=click.Path(path_type=Path),
    default=Path("params.yaml"),
    show_default=True,
    help="The project's parameters.",
)
allow_toy_option = click.option(
    "--allow-toy", is_flag=True, help="Let parts trained on drawings see other pictures; results are marked."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine to read.")


class Examples(click.Command):
    """A command whose help ends with an example that the tests run."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.epilog = f"Example: {example}"


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """A progress bar on stderr while a terminal is there to show it and --quiet was not given; else silence."""
    context = click.get_current_context(silent=True)
    quiet = bool(context and context.find_root().params.get("quiet"))
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def note(text: str) -> None:
    """A remark for people, on stderr, unless --quiet was given."""
    context = click.get_current_context(silent=True)
    if not (context and context.find_root().params.get("quiet")):
        click.echo(text, err=True)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True))


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A plain table on stdout: the first column left, the others right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(Text(f"{cell:.4f}" if isinstance(cell, float) else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def print_record(record: Mapping[str, object]) -> None:
    width = max(map(len, record), default=0)
    for name, value in record.items():
        click.echo(f"{name:<{width}}  {value}")

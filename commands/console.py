"""Shared by all commands: options, progress and notes on stderr, tables and JSON on stdout."""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from schema.text import inert_json, safe_text

if TYPE_CHECKING:
    from project import Project

Progress = Callable[[int, int], None]
Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]  # title, heading, rows
MAX_COLUMNS = 1000  # of a table that is not printed on a terminal
LOG_S = 60.0  # seconds between two lines of progress in a log
INTERRUPTED = 130  # exit code of a program that Ctrl-C ended: 128 + SIGINT
STARTS_AGAIN = "no partial output was left; the same command starts over"
RESUMES = "finished work is kept; the same command resumes from there"
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}  # bytes

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
EXISTING_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
EXISTING_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


def finite(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Callback of an option with a number: rejects nan and infinity."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


def _open_project(ctx: click.Context, parameter: click.Parameter, path: Path) -> "Project":
    from project import Project

    return Project.open(path)


def _set_flag(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Callback of --quiet and --json: they are kept in click's meta, which all contexts of a call share."""
    ctx.meta[f"fmit.{parameter.name}"] = value or is_set(str(parameter.name))


def complete_run(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The project's runs, else any folder."""
    project = ctx.params.get("project")
    configs = (project.root if project else Path()).glob("runs/*/model/config.json")
    runs = sorted(os.path.relpath(path.parents[1]) for path in configs)
    items = [CompletionItem(run) for run in runs if run.startswith(incomplete)]
    return items or [CompletionItem(incomplete, type="dir")]


_params: Any = {"type": click.Path(path_type=Path), "default": "params.yaml", "help": "The project's parameter file."}
params_option = click.option("--params", "params_path", show_default=True, is_eager=True, **_params)
project_option = click.option("--params", "project", show_default=True, callback=_open_project, **_params)
run_option = click.option("--run", type=FOLDER, required=True, shell_complete=complete_run, help="A run's folder.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
allow_synthetic_option = click.option(
    "--allow-synthetic",
    is_flag=True,
    help="Allow photographs with a grounder that was trained on drawings; results are labeled.",
)
redact_option = click.option(
    "--redact", is_flag=True, help="Hide @names, links and images; other words and post ids stay."
)
_flag: Any = {"is_flag": True, "expose_value": False, "callback": _set_flag}
json_option = click.option("--json", help="Print JSON.", **_flag)
quiet_option = click.option("-q", "--quiet", help="Print no progress and no notes.", **_flag)

NAMES = {"dataset": "data", "datasets": "data", "approach": "approaches"}  # parameter -> its key in params.yaml


class ProjectName(click.ParamType):
    """A name from params.yaml. Any text is accepted; shell completion offers the project's names."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        project = ctx.params.get("project")
        if project is None and "params_path" in ctx.params:
            project = _open_project(ctx, param, ctx.params["params_path"])
        names = getattr(project.params, NAMES[param.name or ""]) if project else ()
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class Examples(click.Command):
    """A command with --quiet, an example that the tests run, and a message after Ctrl-C: `after` says what is left."""

    def __init__(self, *args: Any, example: str, after: str = STARTS_AGAIN, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example, self.after = example, after
        self.epilog = f"\b\nExample: {example}"  # \b: not wrapped, so that the line can be copied
        quiet_option(self)
        for parameter in self.params:
            if parameter.name in NAMES:
                parameter.type = ProjectName()

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # After an interrupt inside exec(), which dataclasses use, Python ignores the exit code; this resets that.
            exec("")
            start = "\n" if sys.stderr.isatty() else ""  # the terminal shows ^C
            click.echo(f"{start}stopped; {self.after}", err=True)
            ctx.exit(INTERRUPTED)


class Group(click.Group):
    command_class = Examples


def is_set(flag: str) -> bool:
    """Whether `quiet` or `json` was given, before or after the command's name."""
    ctx = click.get_current_context(silent=True)
    return bool(ctx and ctx.meta.get(f"fmit.{flag}"))


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """A progress bar on stderr; a line every LOG_S seconds if stderr is a file or pipe; nothing with --quiet."""
    if is_set("quiet"):
        yield lambda done, total: None
        return
    if not sys.stderr.isatty():
        last = time.monotonic()  # so short work prints nothing

        def log(done: int, total: int) -> None:
            nonlocal last
            if (now := time.monotonic()) - last >= LOG_S:
                last = now
                click.echo(f"{label}: {done} of {total}", err=True)

        yield log
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def note(text: str) -> None:
    """Print a note on stderr, unless --quiet was given."""
    if not is_set("quiet"):
        click.echo(safe_text(text, None), err=True)


def warn(text: str) -> None:
    """Print a warning on stderr, with --quiet too."""
    click.echo(f"warning: {safe_text(text, None)}", err=True)


def print_result(value: Any, *lines: str, table: Table | None = None) -> None:
    """With --json, print a value (dataclasses and paths in it too) as JSON; else a table, if it has rows, and lines."""
    if is_set("json"):
        from pydantic import TypeAdapter

        click.echo(inert_json(TypeAdapter(Any).dump_python(value, mode="json"), indent=1, sort_keys=True))
        return
    if table and table[2]:
        print_table(*table)
    for line in lines:
        click.echo(line)


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; its first column is left-aligned, the others are right-aligned, and no cell is truncated."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(f"{cell:.4f}" if isinstance(cell, float) else safe_text(cell, None)) for cell in row))
    console = Console()
    if not sys.stdout.isatty():  # a file or pipe: as wide as its longest row
        console.width = console.measure(table, options=console.options.update(max_width=MAX_COLUMNS)).maximum
    console.print(table)


def format_bytes(n_bytes: int) -> str:
    """Bytes with a unit in powers of ten."""
    unit = max((unit for unit in UNITS if n_bytes >= UNITS[unit]), key=UNITS.__getitem__, default="")
    return f"{n_bytes / UNITS[unit]:.1f} {unit}B" if unit else f"{n_bytes} B"

"""What the commands share: options and their types, progress and notes on stderr, tables and JSON on stdout."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from schema.text import inert_json, safe_text

Progress = Callable[[int, int], None]
QUIET = "fmit.quiet"  # key in click's meta, which all contexts of a call share
MAX_COLUMNS = 1000  # of a table that is not printed on a terminal
LOG_S = 60.0  # seconds between two lines of progress in a log
INTERRUPTED = 130  # exit code of a program that Ctrl-C ended: 128 + SIGINT
STARTS_AGAIN = "no partial output was left; the same command starts again"
RESUMES = "finished work is kept; the same command resumes from there"
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}  # bytes


params_option = click.option(
    "--params",
    "params_path",
    type=click.Path(path_type=Path),
    default=Path("params.yaml"),
    show_default=True,
    help="The project's parameters.",
)
allow_synthetic_option = click.option(
    "--allow-synthetic",
    is_flag=True,
    help="Let synthetic parts see photographs; marks the results.",
)
redact_option = click.option(
    "--redact", is_flag=True, help="Hide @names, links and images; other words and post ids stay."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _be_quiet(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[QUIET] = value or context.meta.get(QUIET, False)


class Examples(click.Command):
    """A command with --quiet, an example that the tests run, and a message after Ctrl-C.

    `after`: what an interrupted call leaves behind.
    """

    def __init__(self, *args: Any, example: str, after: str = STARTS_AGAIN, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example, self.after = example, after
        self.epilog = f"\b\nExample: {example}"  # \b: not wrapped, so that the line can be copied
        text = "Print no progress and no notes."
        options = ["-q", "--quiet"]
        self.params.append(click.Option(options, is_flag=True, expose_value=False, callback=_be_quiet, help=text))
        for parameter in self.params:
            if parameter.name in VALUES and parameter.type is click.STRING:
                parameter.type = VALUES[parameter.name]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # After an interrupt inside exec(), which dataclasses use, Python exits as if killed, whatever exit code it
            # is given; another exec() resets that.
            exec("")
            start = "\n" if sys.stderr.isatty() else ""  # the terminal shows ^C
            click.echo(f"{start}stopped; {self.after}", err=True)
            ctx.exit(INTERRUPTED)


def is_quiet() -> bool:
    """Whether --quiet was given, before or after the command's name."""
    context = click.get_current_context(silent=True)
    return bool(context and (context.meta.get(QUIET) or context.find_root().params.get("quiet")))


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """A progress bar on stderr; a line every LOG_S seconds if stderr is a file or pipe; nothing with --quiet."""
    if is_quiet():
        yield lambda done, total: None
        return
    if not sys.stderr.isatty():
        yield _log_progress(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _log_progress(label: str) -> Progress:
    """Progress as lines for a log: none before LOG_S seconds have passed, so short work prints nothing."""
    last = time.monotonic()

    def log(done: int, total: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= LOG_S:
            last = now
            click.echo(f"{label}: {done} of {total}", err=True)

    return log


def note(text: str) -> None:
    """Print a note on stderr, unless --quiet was given."""
    if not is_quiet():
        click.echo(safe_text(text, None), err=True)


def print_json(value: Any) -> None:
    click.echo(inert_json(value, indent=1, sort_keys=True))


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout, first column left-aligned, the others right-aligned; no cell is cut off."""
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


def print_record(record: Mapping[str, object]) -> None:
    width = max(map(len, record), default=0)
    for name, value in record.items():
        click.echo(f"{name:<{width}}  {value}")


def format_bytes(n_bytes: int) -> str:
    """Bytes with a unit in powers of ten."""
    unit = max((one for one in UNITS if n_bytes >= UNITS[one]), key=UNITS.__getitem__, default="")
    return f"{n_bytes / UNITS[unit]:.1f} {unit}B" if unit else f"{n_bytes} B"


class Named(click.ParamType):
    """A name from params.yaml: any text is accepted, the file's names are offered for completion."""

    name = "name"

    def __init__(self, key: str) -> None:
        self.key = key

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        values = settings(ctx).get(self.key)
        names = [str(name) for name in values] if isinstance(values, (dict, list)) else []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class RunFolder(click.Path):
    """A run's folder; those below runs/ are offered for completion."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        runs = sorted(path.parent.parent for path in params_file(ctx).parent.glob("runs/*/model/config.json"))
        items = [CompletionItem(str(run)) for run in runs if str(run).startswith(incomplete)]
        return items or super().shell_complete(ctx, param, incomplete)


class TableFile(click.Path):
    """A file to write, whose suffix decides the format."""

    SUFFIXES = (".csv", ".json")

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        if Path(str(path)).suffix not in self.SUFFIXES:
            self.fail(f"{str(path)!r} must end in {' or '.join(self.SUFFIXES)}", param, ctx)
        return path


class Bytes(click.ParamType):
    """A number of bytes: 20000000, 500M, 2.5G (powers of ten)."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", str(value).strip().upper())
        if not match:
            self.fail(f"{value!r} is not a number of bytes such as 500M or 2.5G", param, ctx)
        return round(float(match[1]) * UNITS[match[2]])


class Condition(click.ParamType):
    """`field=value` of a shard's producer."""

    name = "field=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        field, _, expected = str(value).partition("=")
        if not (field and expected):
            self.fail(f"{value!r} is not a condition such as producer=toy-resnet", param, ctx)
        return field, expected


DATASET = Named("data")
VALUES: Mapping[str, click.ParamType] = {  # a parameter's name -> its type, unless it has one of its own
    "dataset": DATASET,
    "datasets": DATASET,
    "approach": Named("approaches"),
}


def finite(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Callback of a number option: refuses nan and infinity."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


def params_file(ctx: click.Context) -> Path:
    """The params file that the command line names so far."""
    return ctx.params.get("params_path") or Path("params.yaml")


def settings(ctx: click.Context) -> dict[str, Any]:
    """The raw parameters for completion; empty where they cannot be read."""
    import yaml

    try:
        values = yaml.safe_load(params_file(ctx).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}

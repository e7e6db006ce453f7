"""What the commands share: progress on stderr, tables and JSON on stdout, options that recur.

Values of options: datasets, runs and approaches that a shell offers, as params.yaml and runs/ have them; numbers.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from schema.text import inert_json, safe_text

Progress = Callable[[int, int], None]
QUIET = "fmit.quiet"  # in click's meta, which all contexts of a call share
INTERRUPTED = 130  # exit code of a program that Ctrl-C ended: 128 + SIGINT
ANEW = "nothing half done is left: give the same command again"
GOES_ON = "what was done is kept: the same command goes on from there"


params_option = click.option(
    "--params",
    "params_path",
    type=click.Path(path_type=Path),
    default=Path("params.yaml"),
    show_default=True,
    help="The project's parameters.",
)
allow_synthetic_option = click.option(
    "--allow-synthetic", is_flag=True, help="Let parts trained on drawings see other pictures; results are marked."
)
redact_option = click.option(
    "--redact", is_flag=True, help="Hide @names, links and pictures; all other words and the post ids stay."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine to read.")


def _be_quiet(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[QUIET] = value or context.meta.get(QUIET, False)


class Examples(click.Command):
    """A command whose help ends with an example that the tests run, and that says after Ctrl-C how to go on.

    `after`: what an interrupted call leaves. Each takes --quiet; datasets and runs are completed by the shell.
    """

    def __init__(self, *args: Any, example: str, after: str = ANEW, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example, self.after = example, after
        self.epilog = f"\b\nExample: {example}"  # \b: a line that can be copied, not wrapped
        text = "No progress and no remarks."
        options = ["-q", "--quiet"]
        self.params.append(click.Option(options, is_flag=True, expose_value=False, callback=_be_quiet, help=text))
        for parameter in self.params:
            if parameter.name in VALUES and parameter.type is click.STRING:
                parameter.type = VALUES[parameter.name]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # Interrupted in code that is a string (each dataclass is made of some), Python notes that nobody caught it
            # and ends as if killed, whatever exit code it is given; the next such code takes the note back.
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
    """A progress bar on stderr while a terminal is there to show it and --quiet was not given; else silence."""
    if is_quiet() or not sys.stderr.isatty():
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
    if not is_quiet():
        click.echo(safe_text(text, None), err=True)


def print_json(value: Any) -> None:
    click.echo(inert_json(value, indent=1, sort_keys=True))


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
        table.add_row(*(Text(f"{cell:.4f}" if isinstance(cell, float) else safe_text(cell, None)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def print_record(record: Mapping[str, object]) -> None:
    width = max(map(len, record), default=0)
    for name, value in record.items():
        click.echo(f"{name:<{width}}  {value}")


UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Named(click.ParamType):
    """A name that params.yaml holds: anything is taken, those that are there are offered."""

    name = "name"

    def __init__(self, key: str) -> None:
        self.key = key

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = settings(ctx).get(self.key)
        names = [str(name) for name in found] if isinstance(found, (dict, list)) else []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class RunFolder(click.Path):
    """A run's folder: those below runs/ are offered, and any folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        runs = sorted(path.parent.parent for path in where(ctx).parent.glob("runs/*/model/config.json"))
        found = [CompletionItem(str(run)) for run in runs if str(run).startswith(incomplete)]
        return found or super().shell_complete(ctx, param, incomplete)


class TableFile(click.Path):
    """A file whose name says what is written into it."""

    SUFFIXES = (".csv", ".json")

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        if Path(str(path)).suffix not in self.SUFFIXES:
            self.fail(f"{str(path)!r} ends in none of {', '.join(self.SUFFIXES)}", param, ctx)
        return path


class Bytes(click.ParamType):
    """A number of bytes: 20000000, 500M, 2.5G (powers of ten)."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", str(value).strip().upper())
        if not match:
            self.fail(f"{value!r} is no number of bytes such as 500M or 2.5G", param, ctx)
        return round(float(match[1]) * UNITS[match[2]])


class Condition(click.ParamType):
    """`field=value` of a shard's producer."""

    name = "field=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        field, equals, wanted = str(value).partition("=")
        if not (field and equals and wanted):
            self.fail(f"{value!r} is no condition such as producer=toy-resnet", param, ctx)
        return field, wanted


DATASET = Named("data")
VALUES: Mapping[str, click.ParamType] = {  # a parameter's name -> its values, unless it has a type of its own
    "dataset": DATASET,
    "datasets": DATASET,
    "approach": Named("approaches"),
}


def finite(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Callback of an option with a number: nothing can be compared with nan, which Python reads as a number."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no finite number.")
    return value


def where(ctx: click.Context) -> Path:
    """The params file that the line so far names."""
    return ctx.params.get("params_path") or Path("params.yaml")


def settings(ctx: click.Context) -> dict[str, Any]:
    """The parameters as they are written; nothing where they cannot be read: a shell wants no message now."""
    import yaml

    try:
        values = yaml.safe_load(where(ctx).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}

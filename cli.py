"""`fmit`: every stage, run and look at data by one command. Bodies import what they need, so help is quick."""

from __future__ import annotations

import os
import signal
import sys
from types import ModuleType
from typing import Any

import click

from commands import cache, compare, completion, doctor, embedded, grounding, look, models, pack, runs, stages, tables
from schema.errors import FmitError

COLUMN = 10  # characters of the longest command's name


class Group(click.Group):
    """A group that lists its commands in sections, shows our own errors as one message and exits with 1."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, modules in SECTIONS.items():
            found = [command for module in modules for command in module.COMMANDS if not command.hidden]
            with formatter.section(title):
                rows = [(f"{one.name:<{COLUMN}}", one.get_short_help_str(formatter.width)) for one in found]
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()  # what is still buffered meets its reader here, and not when Python has ended
            return found
        except BrokenPipeError:  # the reader (head, less) has gone: no message, the shell's usual code
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except FmitError as error:
            click.echo(f"error: {shown(str(error))}", err=True)
            sys.exit(1)
        except OSError as error:  # a folder that cannot be written, a full disk: nothing was published
            click.echo(f"error: {shown(str(error.filename or 'a file'))}: {error.strerror or error}", err=True)
            sys.exit(1)


def shown(message: str) -> str:
    """A message that can do a terminal nothing: it may quote what a stranger wrote."""
    from schema.text import safe_text

    return "\n".join(safe_text(line, None) for line in message.split("\n"))


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fmit", message="fmit %(version)s")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no remarks, only results and errors.")
def main(quiet: bool) -> None:
    """Named entities in posts with pictures: stages, store, trainer.

    `dvc repro` runs what is stale; each stage is also a command of its own.
    """


SECTIONS: dict[str, tuple[ModuleType, ...]] = {  # what people do, in the order in which they do it
    "Before any work": (doctor, models),
    "Stages": (stages,),
    "Runs": (runs, compare, grounding, tables),
    "Looking": (look,),
    "Features and parts": (cache, pack, embedded),
    "Shell": (completion,),
}
for modules in SECTIONS.values():
    for module in modules:
        for command in module.COMMANDS:
            main.add_command(command)

if __name__ == "__main__":
    main(prog_name="fmit")

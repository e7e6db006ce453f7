"""`fmit`: every stage, run and look at data by one command. Bodies import what they need, so help is quick."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import click

from commands import cache, compare, doctor, embedded, look, models, pack, runs, stages
from schema.errors import FmitError


class Group(click.Group):
    """A group that shows our own errors as one message and exits with 1."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except FmitError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        except BrokenPipeError:  # the reader (head, less) has gone: no message, the shell's usual code
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        except OSError as error:  # a folder that cannot be written, a full disk: nothing was published
            click.echo(f"error: {error.filename or 'a file'}: {error.strerror or error}", err=True)
            sys.exit(1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fmit", message="fmit %(version)s")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no remarks, only results and errors.")
def main(quiet: bool) -> None:
    """Named entities in posts with pictures: stages, store, trainer.

    `dvc repro` runs what is stale; each stage is also a command of its own.
    """


for group in (stages, runs, compare, look, doctor, models, cache, pack, embedded):
    for command in group.COMMANDS:
        main.add_command(command)

if __name__ == "__main__":
    main()

"""`fmit`: one command for every stage, run and report. Command bodies import what they need, so help is fast."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import click

from commands import cache, compare, doctor, embedded, grounding, look, models, pack, runs, stages, tables
from commands.console import Examples
from schema.errors import FmitError

COLUMN = 10  # characters of the longest command's name


class Group(click.Group):
    """Lists commands in sections; prints FMIT's own errors as one message, exit code 1."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            shown = [command for command in commands if not command.hidden]
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{one.name:<{COLUMN}}", one.get_short_help_str(formatter.width)) for one in shown]
                )

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a broken pipe shows here instead of at interpreter exit
            return result
        except BrokenPipeError:  # the reader (head, less) has closed the pipe: no message, the shell's usual code
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except FmitError as error:
            click.echo(f"error: {sanitized(str(error))}", err=True)
            sys.exit(1)
        except OSError as error:  # such as a folder that cannot be written, or a full disk
            click.echo(f"error: {sanitized(str(error.filename or 'a file'))}: {error.strerror or error}", err=True)
            sys.exit(1)


def sanitized(message: str) -> str:
    """The message without control characters: it may quote posts."""
    from schema.text import safe_text

    return "\n".join(safe_text(line, None) for line in message.split("\n"))


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fmit", message="fmit %(version)s")
@click.option("-q", "--quiet", is_flag=True, help="Print no progress and no notes, only results and errors.")
def main(quiet: bool) -> None:
    """Find named entities in posts with images.

    `dvc repro` runs the stages that are out of date; each stage is also a command here.
    """


@click.command(cls=Examples, example="fmit completion zsh")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    With it the shell completes commands, options, and the project's datasets and runs.

    \b
    bash   add to ~/.bashrc:  eval "$(fmit completion bash)"
    zsh    add to ~/.zshrc:   eval "$(fmit completion zsh)"
    fish   fmit completion fish > ~/.config/fish/completions/fmit.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click has no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "fmit", "_FMIT_COMPLETE").source())


SECTIONS: dict[str, tuple[click.Command, ...]] = {  # in the order of use
    "Before any work": (*doctor.COMMANDS, *models.COMMANDS),
    "Stages": stages.COMMANDS,
    "Runs": (*runs.COMMANDS, *compare.COMMANDS, *grounding.COMMANDS, *tables.COMMANDS),
    "Inspection": look.COMMANDS,
    "Features and parts": (*cache.COMMANDS, *pack.COMMANDS, *embedded.COMMANDS),
    "Shell": (completion,),
}
for commands in SECTIONS.values():
    for command in commands:
        main.add_command(command)

if __name__ == "__main__":
    main(prog_name="fmit")

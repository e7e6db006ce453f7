"""`fmit`: one command for every stage, run and report. Command bodies import what they need, so help is fast."""

import os
import signal
import sys
from typing import Any

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from commands import features, models, show, stages
from commands.console import Examples, quiet_option
from schema.errors import FmitError
from schema.text import safe_text


class Main(click.Group):
    """Lists commands in sections; prints FMIT's own errors as one message, exit code 1."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            shown = [command for command in commands if not command.hidden]  # 10: characters of the longest name
            rows = [(f"{command.name:<10}", command.get_short_help_str(formatter.width)) for command in shown]
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a broken pipe shows here instead of at interpreter exit
            return result
        except BrokenPipeError:  # the reader (head, less) has closed the pipe: no message, the shell's usual exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except FmitError as error:
            message = str(error)
        except OSError as error:  # such as a folder that cannot be written, or a full disk
            message = f"{error.filename or 'a file'}: {error.strerror or error}"
        lines = (safe_text(line, None) for line in message.split("\n"))  # it may quote posts
        click.echo("error: " + "\n".join(lines), err=True)
        sys.exit(1)


SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fmit", message="fmit %(version)s")
@quiet_option
def main() -> None:
    """Find named entities in posts with images.

    `dvc repro` runs the stages that are out of date; each stage is also a command here.
    """


@click.command(cls=Examples, example="fmit completion zsh")
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash   add to ~/.bashrc:  eval "$(fmit completion bash)"
    zsh    add to ~/.zshrc:   eval "$(fmit completion zsh)"
    fish   fmit completion fish > ~/.config/fish/completions/fmit.fish
    """
    click.echo(SHELLS[shell](ctx.find_root().command, {}, "fmit", "_FMIT_COMPLETE").source())


SECTIONS: dict[str, tuple[click.Command, ...]] = {  # in the order of use
    "Setup": (stages.doctor, models.models),
    "Stages": stages.STAGES,
    "Runs": (stages.train, stages.evaluate, stages.predict, stages.report, stages.summary),
    "Results": (show.compare, show.grounding, show.tables, show.show, show.sheet, show.export),
    "Stored features and built-in models": (features.cache, features.pack, models.embedded),
    "Shell": (completion,),
}
for commands in SECTIONS.values():
    for command in commands:
        main.add_command(command)

if __name__ == "__main__":
    main(prog_name="fmit")

"""Completion in the shell: the script that a shell loads, and that asks `fmit` itself for names."""

from __future__ import annotations

import click

from commands.console import Examples

SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Examples, example="fmit completion zsh")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    With it the shell completes commands, options, and the project's datasets and runs.

    \b
    bash   add to ~/.bashrc:  eval "$(fmit completion bash)"
    zsh    add to ~/.zshrc:   eval "$(fmit completion zsh)"
    fish   fmit completion fish > ~/.config/fish/completions/fmit.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:  # click knows more shells than we name, never fewer
        raise click.UsageError(f"click has no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "fmit", "_FMIT_COMPLETE").source())


COMMANDS = (completion,)

"""Models that the settings name: what is here, getting them, and checking them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.console import GOES_ON, Examples, is_quiet, json_option, note, params_option
from commands.models.convert import convert

if TYPE_CHECKING:
    from commands.models.state import Found


dataset_option = click.option("--dataset", help="Only the models of this one.  [default: all prepared datasets]")


@click.group()
def models() -> None:
    """List, fetch and verify the models that the settings name."""


@models.command("list", cls=Examples, example="fmit models list")
@dataset_option
@params_option
@json_option
def list_(dataset: str | None, params_path: Path, as_json: bool) -> None:
    """Every model that the settings name: its part, source, licence, size, and whether it is here."""
    from commands.console import print_json, print_table

    found = _look(params_path, dataset)
    if as_json:
        print_json([one.to_json() for one in found])
        return
    rows = [
        (one.model.name, one.model.part, one.state, megabytes(one.n_bytes), one.licence, one.source) for one in found
    ]
    print_table("models", ("model", "part", "state", "MB", "licence", "source"), rows)
    for one in found:
        if one.state != "present":
            click.echo(f"{one.state}: {one.model.name}: {one.why}; {one.fetched_by}")


@models.command(cls=Examples, example="fmit models fetch", after=GOES_ON)
@click.argument("names", nargs=-1)
@click.option(
    "--from", "source", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Copy; no network is asked."
)
@dataset_option
@params_option
def fetch(names: tuple[str, ...], source: Path | None, dataset: str | None, params_path: Path) -> None:
    """Get the models that are missing or damaged (or those named), from their publishers or from a folder."""
    from commands.models.fetching import fetch as get
    from commands.models.state import look

    found = _chosen(_look(params_path, dataset), names)
    wanted = [one for one in found if one.state != "present"]
    for one in wanted:
        note(f"fetching {one.model.name}")
        get(one, source, bars=_bars())
        now = look(one.model)
        if now.state != "present":
            from schema.errors import WeightsError

            raise WeightsError(f"{one.model.name} is {now.state}", where=now.where, found=now.why, todo=now.fetched_by)
        click.echo(f"fetched {one.model.name}: {now.where}{_pins(now)}")
    click.echo(f"fetch: {len(wanted)} fetched, {len(found) - len(wanted)} of {len(found)} were here")


@models.command(cls=Examples, example="fmit models verify")
@click.argument("names", nargs=-1)
@dataset_option
@params_option
@json_option
def verify(names: tuple[str, ...], dataset: str | None, params_path: Path, as_json: bool) -> None:
    """Read every byte of the models and compare digests; exit code 1 if one is missing or damaged."""
    from commands.console import print_json

    found = _chosen(_look(params_path, dataset), names)
    if as_json:
        print_json([one.to_json() for one in found])
    else:
        for one in found:
            wrong = "" if one.state == "present" else f": {one.why}; {one.fetched_by}"
            click.echo(f"{one.state:<8} {one.model.part}: {one.model.name}{wrong or _pins(one)}")
    if any(one.state != "present" for one in found):
        sys.exit(1)


def megabytes(n_bytes: int) -> str:
    """Such as `91.3`, or `-` for a size that is not known."""
    return f"{n_bytes / 1e6:.1f}" if n_bytes else "-"


def _look(params_path: Path, dataset: str | None) -> list[Found]:
    from commands.models.named import named
    from commands.models.state import look
    from project import Project

    return [look(model) for model in named(Project.open(params_path), dataset)]


def _chosen(found: list[Found], names: Sequence[str]) -> list[Found]:
    known = {one.model.name for one in found}
    for name in names:
        if name not in known:
            raise click.UsageError(f"the settings name no model {name!r}, but {', '.join(sorted(known))}")
    unique = {one.model.name: one for one in reversed(found) if not names or one.model.name in names}
    return list(reversed(unique.values()))


def _pins(found: Found) -> str:
    """What may be put into params.yaml, so that only this very model is taken."""
    told = [f"sha256 {found.digest}"] if found.digest else []
    told += [f"revision {found.revision}"] if found.revision else []
    if not told:
        return ""
    return f" ({', '.join(told)}{'' if found.pinned else '; not pinned in params'})"


def _bars() -> bool:
    return sys.stderr.isatty() and not is_quiet()


models.add_command(convert)

COMMANDS = (models,)

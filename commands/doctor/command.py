"""What is there and what would go wrong, before any work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.console import Examples, json_option, params_option, progress

if TYPE_CHECKING:
    from commands.doctor.findings import Finding
    from project import Project


SCHEMA_VERSION = 1  # of --json
MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@click.command(cls=Examples, example="fmit doctor")
@click.option("--no-data", is_flag=True, help="Leave posts and pictures unread: quicker.")
@params_option
@json_option
def doctor(no_data: bool, params_path: Path, as_json: bool) -> None:
    """Say what is here and what would go wrong.

    Looks at machine, versions, models, data, store and DVC, starts no work and writes nothing. Exit code 1 if something
    would stop work; each problem comes with what to do.
    """
    from commands.console import print_json

    found = list(_all(params_path, with_data=not no_data))
    n_problems = sum(one.level == "problem" for one in found)
    if as_json:
        rows = [{"topic": one.topic, "level": one.level, "what": one.what, "todo": one.todo} for one in found]
        print_json({"schema_version": SCHEMA_VERSION, "ok": n_problems == 0, "findings": rows})
    else:
        _print(found)
        n_notes = sum(one.level == "note" for one in found)
        click.echo(f"\n{n_problems} problem(s), {n_notes} note(s)")
    if n_problems:
        sys.exit(1)


def _all(params_path: Path, *, with_data: bool) -> Iterator[Finding]:
    from commands.doctor import machine, settings, store

    root = params_path.absolute().parent
    yield from machine.hardware(root)
    yield from machine.versions()
    project, found = settings.opened(params_path)
    yield found
    if project:
        yield from settings.names(project)
        yield from settings.models(project)
        if with_data:
            yield from _data(project)
    yield from store.state(project.store if project else settings.store_without_project(root))
    yield from store.dvc(root)


def _data(project: Project) -> Iterator[Finding]:
    from commands.doctor.data import dataset
    from commands.models.named import datasets

    for name in datasets(project):
        with progress(f"reading {name}") as bar:
            found = list(dataset(project, name, bar))
        yield from found


def _print(found: list[Finding]) -> None:
    from schema.text import safe_text  # names of pictures and words come from strangers

    topic = ""
    for one in found:
        if one.topic != topic:
            click.echo(("\n" if topic else "") + one.topic)
            topic = one.topic
        click.echo(f"  {MARKS[one.level]} {safe_text(one.what)}")
        if one.todo:
            click.echo(f"          -> {safe_text(one.todo)}")


COMMANDS = (doctor,)

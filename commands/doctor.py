"""`fmit doctor`: what is installed and what would go wrong, before any work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.console import Examples, json_option, params_option, print_json, progress

if TYPE_CHECKING:
    from checks.findings import Finding

SCHEMA_VERSION = 1  # of --json
MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@click.command(cls=Examples, example="fmit doctor")
@click.option("--no-data", is_flag=True, help="Do not read posts and images: quicker.")
@params_option
@json_option
def doctor(no_data: bool, params_path: Path, as_json: bool) -> None:
    """Check what is installed and what would go wrong.

    Checks the machine, versions, models, data, store and DVC; starts no work and writes nothing. Exit code 1 if there
    is a problem: something that would stop work or spoil its results. Each problem comes with its solution.
    """
    from checks import check_all

    findings = list(check_all(params_path, with_data=not no_data, bar=progress))
    n_problems = sum(one.level == "problem" for one in findings)
    if as_json:
        rows = [{"topic": one.topic, "level": one.level, "what": one.what, "todo": one.todo} for one in findings]
        print_json({"schema_version": SCHEMA_VERSION, "ok": n_problems == 0, "findings": rows})
    else:
        _print(findings)
        n_notes = sum(one.level == "note" for one in findings)
        click.echo(f"\n{n_problems} problem(s), {n_notes} note(s)")
    if n_problems:
        sys.exit(1)


def _print(findings: list[Finding]) -> None:
    from schema.text import safe_text  # image names and words are not ours

    topic = ""
    for one in findings:
        if one.topic != topic:
            click.echo(("\n" if topic else "") + one.topic)
            topic = one.topic
        click.echo(f"  {MARKS[one.level]} {safe_text(one.what)}")
        if one.todo:
            click.echo(f"          -> {safe_text(one.todo)}")


COMMANDS = (doctor,)

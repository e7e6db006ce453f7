"""What the store's commands say to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from commands.console import UNITS, print_json
from schema.errors import StoreError

if TYPE_CHECKING:
    from cache.maintenance import RemovalReport, VerifyReport
    from cache.remotes import TransferReport
    from commands.rows import Forgotten


N_SHOWN = 10  # names of files, posts or rows in one message


def size(n_bytes: int) -> str:
    """Bytes for people, in powers of ten."""
    unit = max((one for one in UNITS if n_bytes >= UNITS[one]), key=UNITS.__getitem__, default="")
    return f"{n_bytes / UNITS[unit]:.1f} {unit}B" if unit else f"{n_bytes} B"


def some(names: Sequence[object]) -> str:
    """The first of many names."""
    return ", ".join(map(str, names[:N_SHOWN])) + (f" and {len(names) - N_SHOWN} more" if len(names) > N_SHOWN else "")


def verified(found: VerifyReport, again: Mapping[str, Mapping[str, Any]]) -> None:
    """What verify read, and what is wrong."""
    for one in found.problems:
        click.echo(f"{one.path}: {one.what}")
    state = "clean" if found.clean else f"{len(found.problems)} problem(s)"
    click.echo(f"verify: {found.n_shards} shards, {size(found.n_bytes)}, {state}")
    if found.n_newer:
        click.echo(
            f"{found.n_newer} of them are whole and of a later version of fmit: their rows count as missing here; "
            "use the version that the others use"
        )
    for name, each in again.items():
        click.echo(f"recompute {name}: {each['n_rows']} rows, {len(each['moved'])} moved")
        for line in each["moved"][:N_SHOWN]:
            click.echo(f"  {line}")


def removed(what: str, removed: RemovalReport, dry_run: bool, as_json: bool) -> None:
    """What went, or would go."""
    if as_json:
        paths = [str(path) for path in removed.paths]
        print_json({**asdict(removed), "paths": paths, "dry_run": dry_run})
        return
    if dry_run:
        for path in removed.paths:
            click.echo(path)
    went = "would go" if dry_run else "removed"
    spared = f", {removed.n_spared} spared for being young" if removed.n_spared else ""
    kept = f"{removed.n_kept} shards ({size(removed.kept_bytes)}) stay"
    click.echo(f"{what}: {len(removed.paths)} files ({size(removed.n_bytes)}) {went}, {kept}{spared}")


def moved(what: str, url: str, moved: TransferReport) -> None:
    """What travelled."""
    click.echo(f"{what} {url}: {moved.n_shards} shards ({size(moved.n_bytes)}) moved, {moved.n_present} there already")


def refuse_damaged(what: str, moved: TransferReport, todo: str) -> None:
    """Raise StoreError where shards were damaged."""
    if moved.damaged:
        raise StoreError(f"{len(moved.damaged)} damaged shard(s) {what}", found=some(moved.damaged), todo=todo)


def forgotten(post_id: str, datasets: Sequence[str], found: Forgotten) -> None:
    """What went, what stays and why, and what the store's commands cannot do."""
    click.echo(f"forget {post_id}: {found.n_rows} rows removed, {found.n_shards} shards rewritten")
    for url, n_rows in found.recalled.items():
        click.echo(f"forget {post_id} at {url}: {n_rows} rows removed")
    click.echo("a last look at every key of every shard found none of them")
    if found.n_kept:
        click.echo(f"kept {found.n_kept} rows: a picture or sentence is also that of {some(found.kept_for)}")
    if found.others:
        click.echo(
            f"rows by {some(found.others)} are not of today's parameters and cannot be told by post: "
            "`fmit cache drop --where producer=NAME` removes them all"
        )
    folders = " and ".join(f"data/{name}" for name in datasets)
    click.echo(f"now remove the post from {folders} and run `dvc repro`: the outs still hold it")
    click.echo("then `dvc gc --workspace --cloud` clears old outs, here and on DVC's remote")
    if not found.recalled:
        click.echo("what `fmit cache push` sent is still on its remotes: `--remote URL` removes it there too")
    click.echo("colleagues' own stores keep their copies: the same command removes them, there")

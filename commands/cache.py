"""The store's commands: what is there, whether it is whole and still true, what may go, and how it is shared."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from commands import tell
from commands.console import (
    RESUMES,
    Bytes,
    Condition,
    Examples,
    finite,
    json_option,
    params_option,
    print_json,
    print_table,
)
from commands.tell import size, some
from schema.errors import StoreError

Command = Callable[..., None]
DAYS = click.FloatRange(min=0)
dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would go.")


def on_a_store(command: Command, *, there: bool = True) -> Command:
    """The options that every command here has; a store that is named must be `there`."""
    store = click.option(
        "--store",
        "folder",
        type=click.Path(path_type=Path, file_okay=False, exists=there),
        help="The store's folder.  [default: $FMIT_STORE, else .fmit/store in the project]",
    )
    return store(params_option(json_option(command)))


@click.group()
def cache() -> None:
    """The store: what was computed once, and is shared."""


@cache.command("stats", cls=Examples, example="fmit cache stats")
@on_a_store
def stats(folder: Path | None, params_path: Path, as_json: bool) -> None:
    """Shards, bytes and rows of the store, by stage and producer."""
    from cache import maintenance

    root = root_of(folder, params_path)
    found = maintenance.stats(root)
    if as_json:
        print_json({"store": str(root), "directories": [asdict(one) for one in found]})
        return
    rows = [
        (one.directory, producer, n_rows, one.n_shards, size(one.n_bytes), one.n_quarantined, one.n_newer)
        for one in found
        for producer, n_rows in (one.rows or {"-": 0}).items()
    ]
    print_table(
        f"store {root}",
        ("directory", "producer", "rows", "shards", "directory's bytes", "quarantined", "later version"),
        rows,
    )


@cache.command("verify", cls=Examples, example="fmit cache verify --recompute 8")
@click.option("--recompute", "n_rows", type=click.IntRange(min=0), default=0, help="Compute K rows again and compare.")
@click.option("--dataset", "datasets", multiple=True, help="Whose rows, may be repeated.  [default: all prepared]")
@click.option("--seed", type=int, help="Draws the rows of --recompute.  [default: others each time]")
@on_a_store
def verify(
    n_rows: int, datasets: tuple[str, ...], seed: int | None, folder: Path | None, params_path: Path, as_json: bool
) -> None:
    """Read every byte of the store; with --recompute K, see whether K rows of each dataset come out the same today.

    What is damaged is set aside and computed again when needed. Ends with exit code 1 where something was wrong.
    """
    from cache import maintenance
    from commands.rows import recomputed
    from project import Project

    root = root_of(folder, params_path)
    found = maintenance.verify(root)
    again = recomputed(Project.open(params_path), root, datasets, n_rows, seed) if n_rows else {}
    if as_json:
        problems = [{"path": str(one.path), "what": one.what} for one in found.problems]
        print_json({**asdict(found), "problems": problems, "recomputed": again})
    else:
        tell.verified(found, again)
    if not found.clean:
        todo = "rows of damaged shards are computed again when needed; files of others may be removed"
        raise StoreError(f"{len(found.problems)} damaged or foreign file(s)", where=str(root), todo=todo)
    if moved := [name for name, one in again.items() if one["moved"]]:
        todo = "restore the code, weights or libraries, or `fmit cache drop --where producer=NAME`"
        raise StoreError("rows come out otherwise today", where=str(root), found=some(moved), todo=todo)


@cache.command("gc", cls=Examples, example="fmit cache gc --max-age-days 90 --dry-run")
@click.option("--max-age-days", type=DAYS, callback=finite, help="Remove what nobody used for so long.")
@click.option("--max-bytes", type=Bytes(), help="Then remove the longest unused beyond this size, such as 20G.")
@dry_run_option
@on_a_store
def gc(
    max_age_days: float | None,
    max_bytes: int | None,
    dry_run: bool,
    folder: Path | None,
    params_path: Path,
    as_json: bool,
) -> None:
    """Remove shards by age of last use and by size; try --dry-run first. What is younger than 14 days stays."""
    from cache import maintenance

    root = root_of(folder, params_path)
    removed = maintenance.gc(root, max_age_days=max_age_days, max_bytes=max_bytes, dry_run=dry_run)
    tell.removed("gc", removed, dry_run, as_json)


@cache.command("compact", cls=Examples, example="fmit cache compact")
@on_a_store
def compact(folder: Path | None, params_path: Path, as_json: bool) -> None:
    """Join small shards; a row that is there twice is kept once."""
    from cache import maintenance

    found = maintenance.compact(root_of(folder, params_path))
    if as_json:
        print_json(asdict(found))
        return
    click.echo(f"compact: {found.n_before} shards became {found.n_after}, {found.n_repeats} repeated rows left out")


@cache.command("drop", cls=Examples, example="fmit cache drop --where producer=toy-resnet --dry-run")
@click.option(
    "--where", "conditions", type=Condition(), multiple=True, required=True, help="May be repeated: all hold."
)
@dry_run_option
@on_a_store
def drop(
    conditions: tuple[tuple[str, str], ...], dry_run: bool, folder: Path | None, params_path: Path, as_json: bool
) -> None:
    """Remove the shards of a producer (`fmit cache stats` lists them); its other fields, such as version, narrow it."""
    from cache import maintenance

    removed = maintenance.drop(root_of(folder, params_path), dict(conditions), dry_run=dry_run)
    tell.removed("drop", removed, dry_run, as_json)


@cache.command("push", cls=Examples, example="fmit cache push team-store", after=RESUMES)
@click.argument("url")
@on_a_store
def push(url: str, folder: Path | None, params_path: Path, as_json: bool) -> None:
    """Send the shards that URL (a folder, s3://, gs://, ssh:// or any fsspec URL) lacks."""
    from cache import remotes

    moved = remotes.push(root_of(folder, params_path), url)
    if as_json:
        print_json(asdict(moved))
    else:
        tell.moved("push", url, moved)
    tell.refuse_damaged(
        "set aside here, not sent", moved, "their rows are computed again by the next run; then push again"
    )


@cache.command("pull", cls=Examples, example="fmit cache pull team-store --for smoke:dev", after=RESUMES)
@click.argument("url")
@click.option("--for", "whose", metavar="DATASET[:SPLIT][:N]", help="Only what these posts need; N: first of a split.")
@partial(on_a_store, there=False)
def pull(url: str, whose: str | None, folder: Path | None, params_path: Path, as_json: bool) -> None:
    """Fetch the shards that are lacking here from URL; with --for, only those with rows that a dataset's posts need.

    --for needs the dataset's posts.parquet (`fmit ingest`) and no other out. Shards come whole: they may hold other
    posts' rows too.
    """
    from cache import remotes
    from commands.rows import pulled_for
    from project import Project

    root = root_of(folder, params_path)
    if whose is not None:
        steps, moved = pulled_for(Project.open(params_path), root, url, whose)
    else:
        steps, moved = [], remotes.pull(root, url)
    if as_json:
        print_json({**asdict(moved), "wanted": steps})
    else:
        for step in steps:
            click.echo(f"{step['stage']} {whose}: {step['n_rows']} rows wanted, {step['n_here']} here")
        tell.moved("pull", url, moved)
    tell.refuse_damaged("refused", moved, "whoever holds them runs `fmit cache verify` and pushes again")


@cache.command("forget", cls=Examples, example="fmit cache forget test-00001 --dataset smoke")
@click.argument("post_id")
@click.option("--dataset", "datasets", multiple=True, required=True, help="The post's dataset; may be repeated.")
@click.option("--remote", "urls", metavar="URL", multiple=True, help="Remove them there too; may be repeated.")
@on_a_store
def forget(
    post_id: str,
    datasets: tuple[str, ...],
    urls: tuple[str, ...],
    folder: Path | None,
    params_path: Path,
    as_json: bool,
) -> None:
    """Remove every row that only this post uses, rewrite their shards, and look once more at what is left.

    A picture or sentence that another post of the project has too keeps the rows that post needs. What was pushed stays
    on a remote that is not named by --remote, and the next pull brings it back.
    """
    from commands.rows import forgotten
    from project import Project

    root = root_of(folder, params_path)
    found = forgotten(Project.open(params_path), root, post_id, datasets, urls)
    if as_json:
        print_json(found.to_json())
    if found.n_left:
        todo = "somebody wrote or pulled meanwhile: run it again when nobody does"
        raise StoreError(f"{found.n_left} of the post's rows are there again", where=str(root), todo=todo)
    if not as_json:
        tell.forgotten(post_id, datasets, found)


def root_of(folder: Path | None, params_path: Path) -> Path:
    """The store: as given, else as the environment says, else in the project's folder. It needs no params.yaml."""
    named = os.environ.get("FMIT_STORE")
    return folder or (Path(named) if named else params_path.resolve().parent / ".fmit" / "store")


COMMANDS = (cache,)

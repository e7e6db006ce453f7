"""`fmit cache`: what the store holds, whether it is intact, what may be removed, and how it is shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.console import (
    RESUMES,
    Bytes,
    Condition,
    Examples,
    finite,
    format_bytes,
    json_option,
    params_option,
    print_json,
    print_table,
)
from schema.errors import StoreError
from schema.text import first_of

if TYPE_CHECKING:
    from cache.maintenance import RemovalReport, VerifyReport
    from cache.remotes import TransferReport
    from pipeline.maintenance import Forgotten

Command = Callable[..., None]
N_SHOWN = 10  # rows of one dataset that changed
DAYS = click.FloatRange(min=0)
STATS_COLUMNS = ("directory", "producer", "rows", "shards", "directory's bytes", "quarantined", "later version")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only print what would be removed.")


def on_store(command: Command, *, must_exist: bool = True) -> Command:
    """Adds the options that every command here has: --store, --params, --json."""
    store = click.option(
        "--store",
        "folder",
        type=click.Path(path_type=Path, file_okay=False, exists=must_exist),
        help="The store's folder.  [default: $FMIT_STORE, else .fmit/store in the project]",
    )
    return store(params_option(json_option(command)))


def root_of(folder: Path | None, params_path: Path) -> Path:
    """The store's folder; params.yaml need not exist."""
    from project import store_root

    return folder or store_root(params_path.resolve().parent)


@click.group()
def cache() -> None:
    """Inspect, share and clean the store of computed rows."""


@cache.command("stats", cls=Examples, example="fmit cache stats")
@on_store
def stats(folder: Path | None, params_path: Path, as_json: bool) -> None:
    """Print shards, bytes and rows of the store, by stage and producer."""
    from cache import maintenance

    root = root_of(folder, params_path)
    directories = maintenance.stats(root)
    if as_json:
        print_json({"store": str(root), "directories": [asdict(one) for one in directories]})
        return
    rows = [
        (one.directory, producer, n_rows, one.n_shards, format_bytes(one.n_bytes), one.n_quarantined, one.n_newer)
        for one in directories
        for producer, n_rows in (one.rows or {"-": 0}).items()
    ]
    print_table(f"store {root}", STATS_COLUMNS, rows)


@cache.command("verify", cls=Examples, example="fmit cache verify --recompute 8")
@click.option("--recompute", "n_rows", type=click.IntRange(min=0), default=0, help="Recompute N rows per dataset.")
@click.option("--dataset", "datasets", multiple=True, help="Recompute its rows; repeatable.  [default: all prepared]")
@click.option("--seed", type=int, help="Seed of the choice of rows.  [default: random]")
@on_store
def verify(
    n_rows: int, datasets: tuple[str, ...], seed: int | None, folder: Path | None, params_path: Path, as_json: bool
) -> None:
    """Read every byte of the store and compare digests.

    With --recompute N, also compute N rows of each dataset again and compare the results. Damaged shards are
    quarantined; their rows are computed again when needed. Exit code 1 if anything is wrong.
    """
    from cache import maintenance

    root = root_of(folder, params_path)
    report = maintenance.verify(root)
    recomputed = recompute(params_path, datasets, root, n_rows, seed) if n_rows else {}
    if as_json:
        problems = [{"path": str(path), "what": what} for path, what in report.problems]
        print_json({**asdict(report), "problems": problems, "recomputed": recomputed})
    else:
        print_verified(report, recomputed)
    if not report.clean:
        todo = "rows of damaged shards are computed again when needed; files that are not the store's may be removed"
        raise StoreError(f"{len(report.problems)} damaged or unknown file(s)", where=str(root), todo=todo)
    if changed := [name for name, one in recomputed.items() if one["moved"]]:
        todo = "restore the code, weights or libraries, or `fmit cache drop --where producer=NAME`"
        raise StoreError("recomputed rows differ from stored ones", where=str(root), found=first_of(changed), todo=todo)


@cache.command("gc", cls=Examples, example="fmit cache gc --max-age-days 90 --dry-run")
@click.option("--max-age-days", type=DAYS, callback=finite, help="Remove what was not used for so many days.")
@click.option("--max-bytes", type=Bytes(), help="Then remove the least recently used beyond this size, such as 20G.")
@dry_run_option
@on_store
def gc(
    max_age_days: float | None,
    max_bytes: int | None,
    dry_run: bool,
    folder: Path | None,
    params_path: Path,
    as_json: bool,
) -> None:
    """Remove shards by age of last use and by total size.

    Try --dry-run first. Shards that were used within the last 14 days stay.
    """
    from cache import maintenance

    root = root_of(folder, params_path)
    report = maintenance.gc(root, max_age_days=max_age_days, max_bytes=max_bytes, dry_run=dry_run)
    print_removed("gc", report, dry_run=dry_run, as_json=as_json)


@cache.command("compact", cls=Examples, example="fmit cache compact")
@on_store
def compact(folder: Path | None, params_path: Path, as_json: bool) -> None:
    """Join small shards; a row that is stored twice is kept once."""
    from cache import maintenance

    report = maintenance.compact(root_of(folder, params_path))
    if as_json:
        print_json(asdict(report))
        return
    click.echo(f"compact: {report.n_before} shards became {report.n_after}, {report.n_repeats} repeated rows removed")


@cache.command("drop", cls=Examples, example="fmit cache drop --where producer=toy-resnet --dry-run")
@click.option(
    "--where", "conditions", type=Condition(), multiple=True, required=True, help="Repeatable: all must hold."
)
@dry_run_option
@on_store
def drop(
    conditions: tuple[tuple[str, str], ...], dry_run: bool, folder: Path | None, params_path: Path, as_json: bool
) -> None:
    """Remove the shards of a producer.

    `fmit cache stats` lists the producers; other fields of a producer, such as version, narrow the selection.
    """
    from cache import maintenance

    report = maintenance.drop(root_of(folder, params_path), dict(conditions), dry_run=dry_run)
    print_removed("drop", report, dry_run=dry_run, as_json=as_json)


@cache.command("push", cls=Examples, example="fmit cache push team-store", after=RESUMES)
@click.argument("url")
@on_store
def push(url: str, folder: Path | None, params_path: Path, as_json: bool) -> None:
    """Upload the shards that URL does not have.

    URL is a folder, s3://, gs://, ssh:// or any other address that fsspec knows.
    """
    from cache import remotes

    report = remotes.push(root_of(folder, params_path), url)
    print_transferred("push", url, report, as_json=as_json)
    refuse_damaged("quarantined, not sent", report, "run the stages again, which computes their rows; then push again")


@cache.command("pull", cls=Examples, example="fmit cache pull team-store --for smoke:dev", after=RESUMES)
@click.argument("url")
@click.option("--for", "whose", metavar="DATASET[:SPLIT][:N]", help="Only what these posts need; N: first of a split.")
@partial(on_store, must_exist=False)
def pull(url: str, whose: str | None, folder: Path | None, params_path: Path, as_json: bool) -> None:
    """Download the shards that are not here; with --for, only those with rows that a dataset's posts need.

    --for needs the dataset's posts.parquet (`fmit ingest`) and no other output. Shards are downloaded whole: they may
    hold rows of other posts too.
    """
    from cache import remotes

    root = root_of(folder, params_path)
    steps, report = ([], remotes.pull(root, url)) if whose is None else pull_for(params_path, whose, root, url)
    for step in () if as_json else steps:
        click.echo(f"{step['stage']} {whose}: {step['n_rows']} rows needed, {step['n_here']} here")
    print_transferred("pull", url, report, as_json=as_json, wanted=steps)
    refuse_damaged("refused", report, "run `fmit cache verify` where they were pushed from, and push again")


@cache.command("forget", cls=Examples, example="fmit cache forget test-00001 --dataset smoke")
@click.argument("post_id")
@click.option("--dataset", "datasets", multiple=True, required=True, help="The post's dataset; repeatable.")
@click.option("--remote", "urls", metavar="URL", multiple=True, help="Remove the rows there too; repeatable.")
@on_store
def forget(
    post_id: str,
    datasets: tuple[str, ...],
    urls: tuple[str, ...],
    folder: Path | None,
    params_path: Path,
    as_json: bool,
) -> None:
    """Remove every row that only this post uses, and check that none is left.

    Rows of an image or sentence that another post of the project shares stay. Rows that were pushed stay on a remote
    that --remote does not name, and the next pull brings them back.
    """
    from pipeline import maintenance
    from project import Project

    root, project = root_of(folder, params_path), Project.open(params_path)
    chosen = {name: project.prepared(name) for name in datasets}
    all_prepared = {name: project.prepared(name) for name in project.prepared_datasets()}
    report = maintenance.forget(post_id, chosen, all_prepared, root, urls)
    if as_json:
        print_json(report.to_json())
    if report.n_left:
        todo = "another process wrote or pulled them meanwhile: run it again when no other does"
        raise StoreError(f"{report.n_left} of the post's rows are stored again", where=str(root), todo=todo)
    if not as_json:
        print_forgotten(post_id, datasets, report)


def recompute(
    params_path: Path, datasets: Sequence[str], root: Path, n_rows: int, seed: int | None
) -> dict[str, dict[str, Any]]:
    """Recompute rows of datasets (none given: all prepared) and compare them with the stored ones."""
    from pipeline import maintenance
    from project import Project

    project = Project.open(params_path)
    prepared = {name: project.prepared(name) for name in datasets or project.prepared_datasets()}
    return maintenance.recompute(prepared, root, n_rows, seed)


def pull_for(params_path: Path, whose: str, root: Path, url: str) -> tuple[list[dict[str, Any]], TransferReport]:
    """Pull what DATASET[:SPLIT][:N] needs."""
    from pipeline import maintenance
    from project import Project

    name, *parts = whose.split(":")
    dataset = Project.open(params_path).prepared(name)
    posts = maintenance.choose(dataset.posts.posts, parts, f"--for {whose}")
    return maintenance.pull(dataset.only(posts), root, url)


def print_verified(report: VerifyReport, recomputed: Mapping[str, Mapping[str, Any]]) -> None:
    for path, what in report.problems:
        click.echo(f"{path}: {what}")
    state = "clean" if report.clean else f"{len(report.problems)} problem(s)"
    click.echo(f"verify: {report.n_shards} shards, {format_bytes(report.n_bytes)}, {state}")
    if report.n_newer:
        what = f"{report.n_newer} of them were written by a later version of fmit, so their rows count as missing here"
        click.echo(f"{what}: install the version that wrote them")
    for name, result in recomputed.items():
        click.echo(f"recompute {name}: {result['n_rows']} rows, {len(result['moved'])} differ")
        for line in result["moved"][:N_SHOWN]:
            click.echo(f"  {line}")


def print_removed(command: str, report: RemovalReport, *, dry_run: bool, as_json: bool) -> None:
    """What was removed, or would be."""
    if as_json:
        print_json({**asdict(report), "paths": [str(path) for path in report.paths], "dry_run": dry_run})
        return
    for path in report.paths if dry_run else ():
        click.echo(path)
    removed = "would be removed" if dry_run else "removed"
    spared = f", {report.n_spared} spared because they are recent" if report.n_spared else ""
    kept = f"{report.n_kept} shards ({format_bytes(report.kept_bytes)}) stay"
    click.echo(f"{command}: {len(report.paths)} files ({format_bytes(report.n_bytes)}) {removed}, {kept}{spared}")


def print_transferred(command: str, url: str, report: TransferReport, *, as_json: bool, **more: object) -> None:
    if as_json:
        print_json({**asdict(report), **more})
        return
    shards = f"{report.n_shards} shards ({format_bytes(report.n_bytes)}) transferred"
    click.echo(f"{command} {url}: {shards}, {report.n_present} were already there")


def refuse_damaged(what: str, report: TransferReport, todo: str) -> None:
    """Raise StoreError where shards were damaged."""
    if report.damaged:
        raise StoreError(f"{len(report.damaged)} damaged shard(s) {what}", found=first_of(report.damaged), todo=todo)


def print_forgotten(post_id: str, datasets: Sequence[str], report: Forgotten) -> None:
    """What was removed, what stays and why, and what is left for the user to do."""
    click.echo(f"forget {post_id}: {report.n_rows} rows removed, {report.n_shards} shards rewritten")
    for url, n_rows in report.recalled.items():
        click.echo(f"forget {post_id} at {url}: {n_rows} rows removed")
    click.echo("a final check of every key in every shard found none of them")
    if report.n_kept:
        click.echo(f"kept {report.n_kept} rows: {first_of(report.kept_for)} shares an image or sentence with it")
    if report.others:
        click.echo(
            f"rows by {first_of(report.others)} were made with other parameters, so their posts are unknown: "
            "`fmit cache drop --where producer=NAME` removes them all"
        )
    folders = " and ".join(f"data/{name}" for name in datasets)
    click.echo(f"now remove the post from {folders} and run `dvc repro`: the stages' outputs still hold it")
    click.echo("then `dvc gc --workspace --cloud` removes old outputs here and on DVC's remote")
    if not report.recalled:
        click.echo("rows that `fmit cache push` sent are still on its remotes: --remote URL removes them there too")
    click.echo("other people's stores keep their copies until they run the same command")


COMMANDS = (cache,)

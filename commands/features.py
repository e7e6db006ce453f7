"""Computed features: `fmit cache` inspects, cleans and shares the store, `fmit pack` the packs for training."""

import re
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands import console
from commands.console import finite, format_bytes, print_result
from schema.errors import StoreError
from schema.text import first_of

if TYPE_CHECKING:
    from cache.maintenance import RemovalReport
    from cache.remotes import TransferReport
    from pipeline.maintenance import Forgotten
    from project import Project

N_SHOWN = 10  # rows of one dataset that changed
dry_run_option = click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
_conditions: Any = {"multiple": True, "required": True, "help": "A field of the producer and its value; repeatable."}


def _store_root(ctx: click.Context, parameter: click.Parameter, folder: Path | None) -> Path:
    """The folder that --store names, else the project's own, even if there is no params.yaml."""
    from project import store_root

    project = ctx.params.get("project")
    root = project.root if project else ctx.params.get("params_path", Path("params.yaml")).resolve().parent
    return folder or store_root(root)


def on_store(command: Callable[..., None], *, must_exist: bool = True) -> Callable[..., None]:
    """Add --json and --store (the argument `root`). Commands with --params put that decorator above this one."""
    folder = click.Path(path_type=Path, file_okay=False, exists=must_exist)
    about = "The store's folder.  [default: $FMIT_STORE, else .fmit/store in the project]"
    store = click.option("--store", "root", type=folder, callback=_store_root, help=about)
    return store(console.json_option(command))


def parse_bytes(ctx: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """A size in bytes: 20000000, 500M or 2.5G (powers of ten)."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text.strip().upper())
    if not match:
        raise click.BadParameter(f"{text!r} is not a size in bytes such as 500M or 2.5G")
    return round(float(match[1]) * console.UNITS[match[2]])


def parse_conditions(ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """Conditions on a shard's producer, each written as field=value."""
    for text in texts:
        if not re.fullmatch(r"[^=]+=.+", text):
            raise click.BadParameter(f"{text!r} is not a condition such as producer=efficientnet-lite2")
    return dict(text.split("=", 1) for text in texts)


@click.group(cls=console.Group)
def cache() -> None:
    """Inspect, share and clean the store of computed rows."""


@cache.command(example="fmit cache stats")
@on_store
def stats(root: Path) -> None:
    """Print the number of shards, bytes and rows in the store, by stage and producer."""
    from cache import maintenance

    directories = maintenance.stats(root)
    rows: list[tuple[object, ...]] = []
    for entry in directories:
        sizes = (entry.n_shards, format_bytes(entry.n_bytes), entry.n_quarantined, entry.n_newer)
        rows += [(entry.directory, producer, n_rows, *sizes) for producer, n_rows in (entry.rows or {"-": 0}).items()]
    head = ("directory", "producer", "rows", "shards", "directory's bytes", "quarantined", "newer version")
    empty = [] if rows else [f"the store {root} is empty"]
    print_result({"store": root, "directories": directories}, *empty, table=(f"store {root}", head, rows))


@cache.command(example="fmit cache verify --recompute 8")
@click.option("--recompute", "n_rows", type=click.IntRange(min=0), default=0, help="Recompute N rows per dataset.")
@click.option("--dataset", "datasets", multiple=True, help="Dataset to recompute; repeatable.  [default: all]")
@console.params_option
@on_store
def verify(n_rows: int, datasets: tuple[str, ...], params_path: Path, root: Path) -> None:
    """Read every byte of the store and compare digests.

    With --recompute N, also compute N rows of each dataset again and compare the results. Damaged shards are
    quarantined; their rows are computed again when needed. Exits with code 1 if anything is wrong.
    """
    from cache import maintenance
    from pipeline.maintenance import recompute
    from project import Project

    report, recomputed = maintenance.verify(root), {}
    if n_rows:
        recomputed = recompute(Project.open(params_path).all_prepared(datasets), root, n_rows, seed=None)
    state = "clean" if report.clean else f"{len(report.problems)} problem(s)"
    problems = [{"path": path, "what": what} for path, what in report.problems]
    lines = [f"{path}: {what}" for path, what in report.problems]
    lines.append(f"verify: {report.n_shards} shards, {format_bytes(report.n_bytes)}, {state}")
    if report.n_newer:
        what = "of them were written by a newer version of fmit, so their rows count as missing here"
        lines.append(f"{report.n_newer} {what}: install the version that wrote them")
    for name, result in recomputed.items():
        lines.append(f"recompute {name}: {result['n_rows']} rows, {len(result['moved'])} differ")
        lines += [f"  {line}" for line in result["moved"][:N_SHOWN]]
    print_result({**asdict(report), "problems": problems, "recomputed": recomputed}, *lines)
    if not report.clean:
        todo = "rows of damaged shards are computed again when needed; unknown files may be removed"
        raise StoreError(f"{len(report.problems)} damaged or unknown file(s)", where=str(root), todo=todo)
    if changed := [name for name, result in recomputed.items() if result["moved"]]:
        todo = "restore the code, weights or libraries, or `fmit cache drop --where producer=NAME`"
        raise StoreError("recomputed rows differ from stored ones", where=str(root), found=first_of(changed), todo=todo)


@cache.command(example="fmit cache gc --max-age-days 90 --dry-run")
@click.option("--max-age-days", type=click.FloatRange(0), callback=finite, help="Remove shards unused for this long.")
@click.option("--max-bytes", callback=parse_bytes, help="Remove least recently used shards beyond this size, e.g. 20G.")
@dry_run_option
@on_store
def gc(max_age_days: float | None, max_bytes: int | None, dry_run: bool, root: Path) -> None:
    """Remove shards by time since last use, or until the store fits a size.

    Try --dry-run first. Shards that were used within the last 14 days are kept.
    """
    from cache import maintenance

    report = maintenance.gc(root, max_age_days=max_age_days, max_bytes=max_bytes, dry_run=dry_run)
    print_removed("gc", report, dry_run=dry_run)


@cache.command(example="fmit cache compact")
@on_store
def compact(root: Path) -> None:
    """Join small shards and remove repeated rows."""
    from cache import maintenance

    report = maintenance.compact(root)
    counts = f"{report.n_before} shards became {report.n_after}, {report.n_repeats} repeated rows removed"
    print_result(report, f"compact: {counts}")


@cache.command(example="fmit cache drop --where producer=efficientnet-lite2 --dry-run")
@click.option("--where", "conditions", metavar="FIELD=VALUE", callback=parse_conditions, **_conditions)
@dry_run_option
@on_store
def drop(conditions: dict[str, str], dry_run: bool, root: Path) -> None:
    """Remove the shards of a producer.

    `fmit cache stats` lists the producers. If --where is repeated, all conditions must hold: add other fields of a
    producer, such as its version, to narrow the selection.
    """
    from cache import maintenance

    report = maintenance.drop(root, conditions, dry_run=dry_run)
    print_removed("drop", report, dry_run=dry_run)


@cache.command(example="fmit cache push team-store", after=console.RESUMES)
@click.argument("url")
@on_store
def push(url: str, root: Path) -> None:
    """Upload the shards that URL does not have.

    URL is a folder, s3://, gs://, ssh:// or any other address that fsspec supports.
    """
    from cache import remotes

    report = remotes.push(root, url)
    todo = "run the stages again to recompute their rows, then push again"
    print_transferred(f"push {url}", report, "quarantined, not sent", todo)


@cache.command(example="fmit cache pull team-store --for smoke:dev", after=console.RESUMES)
@click.argument("url")
@click.option("--for", "whose", metavar="DATASET[:SPLIT][:N]", help="Only the rows of these posts (N: the first N).")
@console.params_option
@partial(on_store, must_exist=False)
def pull(url: str, whose: str | None, params_path: Path, root: Path) -> None:
    """Download the shards that are missing here; with --for, only those with rows that a dataset's posts need.

    --for needs the dataset's posts.parquet (`fmit ingest`) and no other output. Shards are downloaded whole, so they
    may contain rows of other posts too.
    """
    from cache import remotes
    from pipeline import maintenance
    from project import Project

    steps: list[dict[str, Any]] = []
    if whose is None:
        report = remotes.pull(root, url)
    else:
        name, *parts = whose.split(":")
        dataset = Project.open(params_path).prepared(name)
        posts = maintenance.choose(dataset.posts.posts, parts, f"--for {whose}")
        steps, report = maintenance.pull(dataset.only(posts), root, url)
    lines = [f"{step['stage']} {whose}: {step['n_rows']} rows needed, {step['n_here']} here" for step in steps]
    todo = "run `fmit cache verify` on the machine that pushed them, then push again"
    print_transferred(f"pull {url}", report, "rejected", todo, *lines, wanted=steps)


@cache.command(example="fmit cache forget test-00001 --dataset smoke")
@click.argument("post_id")
@click.option("--dataset", "datasets", multiple=True, required=True, help="The post's dataset; repeatable.")
@click.option("--remote", "urls", metavar="URL", multiple=True, help="Also remove them from this remote; repeatable.")
@console.project_option
@on_store
def forget(post_id: str, datasets: tuple[str, ...], urls: tuple[str, ...], project: "Project", root: Path) -> None:
    """Remove every row that only this post uses, and check that none is left.

    Rows of an image or sentence that another post of the project shares are kept. Rows that were pushed to a remote
    remain there unless --remote names it, and the next pull brings them back.
    """
    from pipeline import maintenance

    report = maintenance.forget(post_id, project.all_prepared(datasets), project.all_prepared(), root, urls)
    print_result(report, *([] if report.n_left else _forgotten_lines(post_id, datasets, report)))
    if report.n_left:
        todo = "another process wrote or pulled them in the meantime: stop it and run this command again"
        raise StoreError(f"{report.n_left} of the post's rows are in the store again", where=str(root), todo=todo)


def print_removed(command: str, report: "RemovalReport", *, dry_run: bool) -> None:
    removed = "would be removed" if dry_run else "removed"
    spared = f", {report.n_spared} of them because they were used recently" if report.n_spared else ""
    kept = f"{report.n_kept} shards ({format_bytes(report.kept_bytes)}) stay{spared}"
    line = f"{command}: {len(report.paths)} files ({format_bytes(report.n_bytes)}) {removed}, {kept}"
    print_result({**asdict(report), "dry_run": dry_run}, *(map(str, report.paths) if dry_run else ()), line)


def print_transferred(name: str, report: "TransferReport", damage: str, todo: str, *lines: str, **more: object) -> None:
    """Print what was transferred; raises StoreError if shards were damaged."""
    shards = f"{report.n_shards} shards ({format_bytes(report.n_bytes)}) transferred"
    line = f"{name}: {shards}, {report.n_present} were already there"
    print_result({**asdict(report), **more}, *lines, line)
    if report.damaged:
        raise StoreError(f"{len(report.damaged)} damaged shard(s) {damage}", found=first_of(report.damaged), todo=todo)


def _forgotten_lines(post_id: str, datasets: tuple[str, ...], report: "Forgotten") -> list[str]:
    """The lines that `forget` prints: rows removed, rows kept and why, and remaining steps."""
    lines = [f"forget {post_id}: {report.n_rows} rows removed, {report.n_shards} shards replaced"]
    lines += [f"forget {post_id} at {url}: {n_rows} rows removed" for url, n_rows in report.purged.items()]
    lines.append("a final check of every key in every shard found none of them")
    if report.n_kept:
        lines.append(f"kept {report.n_kept} rows, shared with {first_of(report.kept_for)}")
    if report.others:
        what = f"rows by {first_of(report.others)} were computed with other parameters, so their posts are unknown"
        lines.append(f"{what}: `fmit cache drop --where producer=NAME` removes them all")
    folders = " and ".join(f"data/{name}" for name in datasets)
    lines.append(f"now remove the post from {folders} and run `dvc repro`: the stages' outputs still contain it")
    lines.append("then `dvc gc --workspace --cloud` removes old outputs here and on DVC's remote")
    if not report.purged:
        lines.append("rows that `fmit cache push` sent are still on its remotes: --remote URL removes them there too")
    return [*lines, "other people's stores keep their copies until they run the same command"]


pack_argument = click.argument("pack", metavar="FOLDER", type=console.FOLDER)
dataset_option = click.option("--dataset", required=True, help="The posts' dataset in params.yaml.")


@click.group(cls=console.Group)
def pack() -> None:
    """Verify, import and export packs: the features that training reads."""


@pack.command("verify", example="fmit pack verify out/smoke/pack")
@pack_argument
@console.json_option
def verify_pack(pack: Path) -> None:
    """Read every byte of a pack and compare digests.

    Exits with code 1 if a file is damaged.
    """
    from cache.packs import Pack
    from schema.errors import PackError

    opened = Pack(pack)
    problems, meta, grid = opened.verify(), opened.meta, opened.grid
    n_posts = None if problems else len(opened.ids)
    n_grid = None if problems or grid is None else len(grid.ids)
    state = f"{len(problems)} problem(s)" if problems else f"clean, {n_posts} posts"
    state += f", grid of {n_grid} images" if n_grid is not None else ""
    value = {name: getattr(meta, name) for name in ("dim", "dtype", "n_buckets", "synthetic")}
    value |= {"pack": pack, "n_posts": n_posts, "n_grid": n_grid, "problems": problems}
    line = f"verify {pack}: {meta.n_buckets} buckets of {meta.dim} x {meta.dtype}, {state}"
    print_result(value, *problems, line)
    if problems:
        todo = "pull the pack, run the regions stage, or import it again"
        raise PackError(f"{len(problems)} file(s) of the pack are damaged", where=str(pack), todo=todo)


@pack.command("import", example="fmit pack import features.parquet --dataset smoke --out packs/mine")
@click.argument("file", type=console.EXISTING_FILE)
@dataset_option
@click.option("--out", type=console.FOLDER, required=True, help="The pack's folder.")
@click.option("--name", help="Name of the features; a run accepts only packs of the same name.  [default: FILE's name]")
@console.project_option
@console.json_option
def import_(file: Path, dataset: str, out: Path, name: str | None, project: "Project") -> None:
    """Make a pack of your own features: a Parquet table with one row per object.

    Columns: post_id, source (image, general or phrase), text (the phrase or general word), word_start, word_end (null
    except for phrases), x0, y0, x1, y1 (pixels; null for a post without an image), score, features (lists of numbers
    of equal length) and, for posts with several images, image_index. Rows may come in any order and objects may be
    missing; the rows are checked against the dataset's posts. Use the pack with --pack of `fmit train` and `fmit
    evaluate`, or for all commands with `data.DATASET.pack: FOLDER` in params.yaml; DVC does not track that folder.
    """
    from cache import feature_table
    from cache.packs import FILES
    from cache.run_files import refuse_strange

    refuse_strange(out, FILES)
    posts, n_buckets = project.posts(dataset), project.regions_config(dataset).n_buckets
    report = feature_table.import_features(file, posts, out, n_buckets=n_buckets, name=name or file.stem)
    objects = f"{report.n_rows} objects of {report.dim} x {report.dtype}"
    line = f"import {dataset}: {objects}; {report.n_without} of {report.n_posts} posts have none"
    print_result(report, line)
    console.note(f"train on it: fmit train --dataset {dataset} --pack {out}")


@pack.command(example="fmit pack export out/smoke/pack --dataset smoke --out exported.parquet")
@pack_argument
@dataset_option
@click.option("--out", type=console.FILE, required=True, help="The table to write.")
@console.project_option
@console.json_option
def export(pack: Path, dataset: str, out: Path, project: "Project") -> None:
    """Write a pack's objects as a table that `fmit pack import` reads.

    Identical packs export to identical files. The grid is not exported: its cells belong to images, not to posts.
    """
    from cache import feature_table
    from cache.packs import Pack

    posts, opened = project.posts(dataset), Pack(pack)
    n_rows, n_posts = feature_table.export_features(opened, posts, out), len(posts.posts)
    if opened.grid is not None:
        console.note("the table does not contain the pack's grid")
    value = {"n_rows": n_rows, "n_posts": n_posts, "out": out}
    print_result(value, f"export {dataset}: {n_rows} objects of {n_posts} posts in {out}")

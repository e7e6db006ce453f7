"""Packs: see that one is whole, bring features of one's own, take ours elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from commands.console import Examples, json_option, note, params_option, print_json

pack_argument = click.argument("pack", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False))
dataset_option = click.option("--dataset", required=True, help="A dataset of params.yaml, whose posts these are.")
N_BUCKETS = 64


@click.group()
def pack() -> None:
    """Packs: the features that training reads."""


@pack.command("verify", cls=Examples, example="fmit pack verify out/smoke/pack")
@pack_argument
@json_option
def verify(pack: Path, as_json: bool) -> None:
    """Read every byte of a pack; exit code 1 where one is not as it was written."""
    from cache.packs import Pack
    from schema.errors import PackError

    opened = Pack.open(pack)
    problems, meta, grid = opened.verify(), opened.meta, opened.grid
    n_posts = None if problems else len(opened.ids)
    n_pictures = None if problems or grid is None else len(grid.ids)
    if as_json:
        shape = {"dim": meta.dim, "dtype": meta.dtype, "n_buckets": meta.n_buckets, "synthetic": meta.synthetic}
        print_json({"pack": str(pack), **shape, "n_posts": n_posts, "n_grid": n_pictures, "problems": problems})
    else:
        for problem in problems:
            click.echo(problem)
        state = f"{len(problems)} problem(s)" if problems else f"clean, {n_posts} posts"
        state += f", grid of {n_pictures} pictures" if n_pictures is not None else ""
        click.echo(f"verify {pack}: {meta.n_buckets} buckets of {meta.dim} x {meta.dtype}, {state}")
    if problems:
        todo = "pull the pack, run the regions stage, or import it again"
        raise PackError(f"{len(problems)} file(s) of the pack are not as they were written", where=str(pack), todo=todo)


@pack.command("import", cls=Examples, example="fmit pack import features.parquet --dataset smoke --out packs/mine")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@dataset_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The pack's folder.")
@click.option("--name", help="Tells features apart: a run takes packs of its own name only.  [default: FILE's name]")
@click.option("--buckets", "n_buckets", type=click.IntRange(min=1), default=N_BUCKETS, show_default=True)
@params_option
@json_option
def import_(
    file: Path, dataset: str, out: Path, name: str | None, n_buckets: int, params_path: Path, as_json: bool
) -> None:
    """Make a pack of your own features: a Parquet table, one row an object, checked against the dataset's posts.

    Columns: post_id, source (image, general or phrase), text (the phrase or general word), word_start, word_end (null
    but for phrases), x0, y0, x1, y1 (pixels; null for a post without a picture), score, features (list of numbers, any
    one width); image_index may be there for posts with several pictures. Rows come in any order, any object may be
    missing.

    Train on it with `fmit train --dataset DATASET --pack FOLDER` (and score with `fmit evaluate --pack FOLDER`). With
    `data.DATASET.pack: FOLDER` in params.yaml every command does, but DVC does not watch that folder.
    """
    from dataclasses import asdict

    from cache import feature_table, tables
    from cache.packs import FILES
    from cache.run_files import refuse_strange
    from project import Project

    refuse_strange(out, FILES)
    project = Project.open(params_path)
    project.params.dataset(dataset)
    posts = tables.read_posts(project.out(dataset, "posts.parquet"))
    found = feature_table.import_features(file, posts, out, n_buckets=n_buckets, name=name or file.stem)
    if as_json:
        print_json(asdict(found))
        return
    shape = f"{found.dim} x {found.dtype}"
    click.echo(
        f"import {dataset}: {found.n_rows} objects of {shape}; {found.n_without} of {found.n_posts} posts have none"
    )
    note(f"train on it: fmit train --dataset {dataset} --pack {out}")


@pack.command("export", cls=Examples, example="fmit pack export out/smoke/pack --dataset smoke --out exported.parquet")
@pack_argument
@dataset_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The table to write.")
@params_option
@json_option
def export(pack: Path, dataset: str, out: Path, params_path: Path, as_json: bool) -> None:
    """Write a pack's objects as the table that `fmit pack import` takes: equal packs give equal bytes.

    A grid in the pack stays behind: its cells belong to pictures, the table's rows to posts.
    """
    from cache import feature_table, tables
    from cache.packs import Pack
    from project import Project

    project = Project.open(params_path)
    project.params.dataset(dataset)
    posts = tables.read_posts(project.out(dataset, "posts.parquet"))
    opened = Pack.open(pack)
    n_rows = feature_table.export_features(opened, posts, out)
    if opened.grid is not None:
        note("the pack's grid is not in the table")
    if as_json:
        print_json({"n_rows": n_rows, "n_posts": len(posts.posts), "out": str(out)})
    else:
        click.echo(f"export {dataset}: {n_rows} objects of {len(posts.posts)} posts in {out}")


COMMANDS = (pack,)

"""`fmit pack`: verify a pack, make one of your own features, export one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.console import Examples, json_option, note, params_option, print_json

if TYPE_CHECKING:
    from cache.tables import Posts

folder = click.Path(path_type=Path, file_okay=False)
pack_argument = click.argument("pack", metavar="FOLDER", type=folder)
dataset_option = click.option("--dataset", required=True, help="The posts' dataset in params.yaml.")
N_BUCKETS = 64


@click.group()
def pack() -> None:
    """Verify, import and export packs: the features that training reads."""


@pack.command("verify", cls=Examples, example="fmit pack verify out/smoke/pack")
@pack_argument
@json_option
def verify(pack: Path, as_json: bool) -> None:
    """Read every byte of a pack and compare digests.

    Exit code 1 if a file is damaged.
    """
    from cache.packs import Pack
    from schema.errors import PackError

    opened = Pack(pack)
    problems, meta, grid = opened.verify(), opened.meta, opened.grid
    n_posts = None if problems else len(opened.ids)
    n_images = None if problems or grid is None else len(grid.ids)
    if as_json:
        shape = {"dim": meta.dim, "dtype": meta.dtype, "n_buckets": meta.n_buckets, "synthetic": meta.synthetic}
        print_json({"pack": str(pack), **shape, "n_posts": n_posts, "n_grid": n_images, "problems": problems})
    else:
        for problem in problems:
            click.echo(problem)
        state = f"{len(problems)} problem(s)" if problems else f"clean, {n_posts} posts"
        state += f", grid of {n_images} images" if n_images is not None else ""
        click.echo(f"verify {pack}: {meta.n_buckets} buckets of {meta.dim} x {meta.dtype}, {state}")
    if problems:
        todo = "pull the pack, run the regions stage, or import it again"
        raise PackError(f"{len(problems)} file(s) of the pack are damaged", where=str(pack), todo=todo)


@pack.command("import", cls=Examples, example="fmit pack import features.parquet --dataset smoke --out packs/mine")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@dataset_option
@click.option("--out", type=folder, required=True, help="The pack's folder.")
@click.option("--name", help="Name of the features; a run only accepts packs of the same name.  [default: FILE's name]")
@click.option("--buckets", "n_buckets", type=click.IntRange(min=1), default=N_BUCKETS, show_default=True)
@params_option
@json_option
def import_(
    file: Path, dataset: str, out: Path, name: str | None, n_buckets: int, params_path: Path, as_json: bool
) -> None:
    """Make a pack of your own features: a Parquet table with one row per object.

    Columns: post_id, source (image, general or phrase), text (the phrase or general word), word_start, word_end (null
    except for phrases), x0, y0, x1, y1 (pixels; null for a post without an image), score, features (list of numbers,
    all of one length) and, for posts with several images, image_index. Rows may come in any order and objects may be
    missing; the rows are checked against the dataset's posts.

    Train on the pack with `fmit train --dataset DATASET --pack FOLDER` and score with `fmit evaluate --pack FOLDER`.
    With `data.DATASET.pack: FOLDER` in params.yaml every command uses it, but DVC does not watch that folder.
    """
    from cache import feature_table
    from cache.packs import FILES
    from cache.run_files import refuse_strange

    refuse_strange(out, FILES)
    posts = _read_posts(params_path, dataset)
    found = feature_table.import_features(file, posts, out, n_buckets=n_buckets, name=name or file.stem)
    if as_json:
        print_json(asdict(found))
        return
    objects = f"{found.n_rows} objects of {found.dim} x {found.dtype}"
    click.echo(f"import {dataset}: {objects}; {found.n_without} of {found.n_posts} posts have none")
    note(f"train on it: fmit train --dataset {dataset} --pack {out}")


@pack.command("export", cls=Examples, example="fmit pack export out/smoke/pack --dataset smoke --out exported.parquet")
@pack_argument
@dataset_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The table to write.")
@params_option
@json_option
def export(pack: Path, dataset: str, out: Path, params_path: Path, as_json: bool) -> None:
    """Write a pack's objects as a table that `fmit pack import` reads.

    Equal packs give equal bytes. A grid in the pack is not exported: its cells belong to images, the table's rows to
    posts.
    """
    from cache import feature_table
    from cache.packs import Pack

    posts, opened = _read_posts(params_path, dataset), Pack(pack)
    n_rows = feature_table.export_features(opened, posts, out)
    if opened.grid is not None:
        note("the pack's grid is not in the table")
    if as_json:
        print_json({"n_rows": n_rows, "n_posts": len(posts.posts), "out": str(out)})
    else:
        click.echo(f"export {dataset}: {n_rows} objects of {len(posts.posts)} posts in {out}")


def _read_posts(params_path: Path, dataset: str) -> Posts:
    from cache import tables
    from project import Project

    project = Project.open(params_path)
    project.params.dataset(dataset)
    return tables.read_posts(project.out(dataset, "posts.parquet"))


COMMANDS = (pack,)

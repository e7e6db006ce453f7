"""What the store's commands do with a project's rows: name those of a dataset, compute some again, fetch, forget."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import maintenance, remotes, tables
from cache.remotes import TransferReport
from project import Project
from schema.errors import ConfigError, DataError
from schema.records import SPLITS, Post

if TYPE_CHECKING:
    from cache.store import Store
    from pipeline.feature_pipeline import Chain
    from pipeline.store_rows import Made


@dataclass(frozen=True)
class Forgotten:
    """Rows removed and shards rewritten for it; `n_left`: of these rows, those that a last look found.

    `n_kept` rows stay, for the posts `kept_for` need them; `others`: producers whose rows nobody can tell by post;
    `recalled`: rows removed from each remote. `n_left` counts theirs too.
    """

    n_rows: int
    n_shards: int
    n_left: int
    n_kept: int
    kept_for: tuple[str, ...]
    others: tuple[str, ...]
    recalled: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def prepared(project: Project) -> list[str]:
    """The datasets of params.yaml whose posts have been read."""
    return [name for name in project.params.data if project.out(name, "posts.parquet").is_file()]


def open_made(project: Project, dataset: str) -> Made:
    """A dataset's tables, those that there are, and how its parts are built; DataError where it has no posts."""
    from pipeline.store_rows import Made

    images = project.images(dataset)
    phrases, boxes = (project.out(dataset, name) for name in ("phrases.parquet", "boxes.parquet"))
    return Made(
        tables.read_posts(project.out(dataset, "posts.parquet")),
        tables.read_phrases(phrases)[0] if phrases.is_file() else [],
        tables.read_boxes(boxes)[0] if boxes.is_file() else [],
        images,
        functools.cache(lambda: build_chain(project, dataset)),
    )


def build_chain(project: Project, dataset: str) -> Chain:
    """The parts that a dataset's parameters name. Toys are allowed: rows are named and compared, no result is made."""
    from pipeline.feature_pipeline import Chain
    from pipeline.grounding.registry import build_grounder
    from pipeline.phrases.registry import build_parser
    from pipeline.regions.config import build_net

    phrases = project.phrases_config(dataset)
    ground = project.ground_config(dataset, allow_synthetic=True)
    net = project.regions_config(dataset, allow_synthetic=True)
    return Chain(phrases, ground, net, build_parser(phrases), build_grounder(ground), build_net(net))


def chosen(posts: Sequence[Post], parts: Sequence[str], where: str) -> list[Post]:
    """Some of a dataset's posts: a part names their split, or is a number, the first so many of each split.

    ConfigError for a part that is neither, or that leaves no post.
    """
    found = list(posts)
    for part in parts:
        split = {"valid": "dev"}.get(part, part)
        if part.isdecimal():
            found = [one for name in SPLITS for one in [post for post in found if post.split == name][: int(part)]]
        elif split in SPLITS:
            found = [post for post in found if post.split == split]
        else:
            todo = f"use {', '.join(SPLITS)}, or a number of posts"
            raise ConfigError("no such part of a dataset", where=where, found=repr(part), todo=todo)
    if not found:
        raise ConfigError("no post in this part of the dataset", where=where)
    return found


def recomputed(
    project: Project, root: Path, datasets: Sequence[str], n_rows: int, seed: int | None
) -> dict[str, dict[str, Any]]:
    """By dataset (none given: all prepared): how many rows were computed again, and a line for each that moved."""
    from pipeline import store_rows
    from pipeline.store_rows import open_stores

    found = {}
    with open_stores(root) as stores:
        for name in datasets or prepared(project):
            again = store_rows.recompute(open_made(project, name), stores, n_rows, random.Random(seed))
            moved = [f"{one.stage}, post {one.post_id}, row {one.key}: {one.moved}" for one in again if one.moved]
            found[name] = {"n_rows": len(again), "moved": moved}
    return found


def pulled_for(project: Project, root: Path, url: str, whose: str) -> tuple[list[dict[str, Any]], TransferReport]:
    """Pull what posts need, stage after stage: what one needs follows from the rows of the one before.

    `whose` is DATASET, and after colons what `chosen` takes. Returns the stages' rows, wanted and here, and what
    travelled.
    """
    from pipeline.store_rows import open_stores, wanted

    dataset, *parts = whose.split(":")
    made = open_made(project, dataset)
    made = made.only(chosen(made.posts.posts, parts, f"--for {whose}"))
    steps, moved = [], TransferReport(0, 0, 0)
    with open_stores(root) as stores:
        for step in wanted(made, stores):
            one = remotes.pull(root, url, step.unique)
            damaged = tuple(dict.fromkeys((*moved.damaged, *one.damaged)))
            n_before = one.n_present - moved.n_shards  # those of an earlier step are there by now
            moved = TransferReport(moved.n_shards + one.n_shards, moved.n_bytes + one.n_bytes, n_before, damaged)
            n_absent = len(stores[step.store].missing(step.unique))
            steps.append({"stage": step.stage, "n_rows": len(step.unique), "n_here": len(step.unique) - n_absent})
    return steps, moved


def forgotten(
    project: Project, root: Path, post_id: str, datasets: Sequence[str], urls: Sequence[str] = ()
) -> Forgotten:
    """Remove the rows that only this post of these datasets uses, from remotes first: the store names rows that they
    hold. DataError where one of the datasets has no such post.
    """
    from pipeline import store_rows
    from pipeline.store_rows import open_stores

    own: set[str] = set()
    posts, others = [], set()
    with open_stores(root) as stores:
        for name in datasets:
            made = open_made(project, name)
            post = next((one for one in made.posts.posts if one.id == post_id), None)
            if post is None:
                raise DataError(f"no post {post_id!r}", where=f"dataset {name}", todo="ids are in posts.parquet")
            own |= store_rows.keys_of(made, post, stores)
            others |= set(store_rows.strangers(root, made.build()))
            posts.append(post)
        kept_for, used = _used_by_others(project, stores, posts, datasets)
        shared = sorted(own & used)
        n_kept = sum(len(shared) - len(store.missing(shared)) for store in stores.values())
    away = {url: remotes.purge(url, own - used) for url in urls}
    found = maintenance.forget(root, own - used)
    n_left = found.n_left + sum(one.n_left for one in away.values())
    recalled = {url: one.n_rows for url, one in away.items()}
    return Forgotten(found.n_rows, found.n_shards, n_left, n_kept, tuple(kept_for), tuple(sorted(others)), recalled)


def _used_by_others(
    project: Project, stores: Mapping[str, Store], posts: Sequence[Post], datasets: Sequence[str]
) -> tuple[list[str], set[str]]:
    """The project's other posts that have a picture or sentence of these, and all keys that they want."""
    from pipeline import store_rows
    from pipeline.store_rows import wanted

    names: list[str] = []
    used: set[str] = set()
    for name in prepared(project):
        made = open_made(project, name)
        mine = {post.id for post in posts} if name in datasets else set()
        others = [one for one in made.posts.posts if one.id not in mine]
        sharers = {one.id: one for post in posts for one in store_rows.sharing(post, others)}
        if sharers:
            names += [f"{one} ({name})" for one in sharers]
            used |= {key for step in wanted(made.only(list(sharers.values())), stores) for key in step.unique}
    return names, used

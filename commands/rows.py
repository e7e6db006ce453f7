"""What the store's commands do with a project's rows: pull those of a dataset, compute some again, forget a post."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import maintenance, remotes
from cache.remotes import TransferReport
from project import Project
from schema.errors import ConfigError, DataError
from schema.records import SPLITS, Post

if TYPE_CHECKING:
    from cache.store import Store


@dataclass(frozen=True)
class Forgotten:
    """Rows removed and shards rewritten for it; `n_left`: of these rows, those found by a last look.

    `n_kept` rows stay because the posts `kept_for` need them; `others`: producers whose rows cannot be named by post;
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


def choose(posts: Sequence[Post], parts: Sequence[str], where: str) -> list[Post]:
    """Some of a dataset's posts: a part names their split, or is a number, the first so many of each split.

    ConfigError for a part that is neither, or that leaves no post.
    """
    chosen = list(posts)
    for part in parts:
        split = {"valid": "dev"}.get(part, part)
        if part.isdecimal():
            chosen = [one for name in SPLITS for one in [post for post in chosen if post.split == name][: int(part)]]
        elif split in SPLITS:
            chosen = [post for post in chosen if post.split == split]
        else:
            todo = f"use {', '.join(SPLITS)}, or a number of posts"
            raise ConfigError("no such part of a dataset", where=where, found=repr(part), todo=todo)
    if not chosen:
        raise ConfigError("no post in this part of the dataset", where=where)
    return chosen


def recompute(
    project: Project, root: Path, datasets: Sequence[str], n_rows: int, seed: int | None
) -> dict[str, dict[str, Any]]:
    """By dataset (none given: all prepared): how many rows were computed again, and a line for each that changed."""
    from pipeline import store_rows

    report = {}
    with store_rows.open_stores(root) as stores:
        for name in datasets or prepared(project):
            rows = store_rows.recompute(project.prepared(name), stores, n_rows, random.Random(seed))
            moved = [f"{row.stage}, post {row.post_id}, row {row.key}: {row.change}" for row in rows if row.change]
            report[name] = {"n_rows": len(rows), "moved": moved}
    return report


def pull(project: Project, root: Path, url: str, whose: str) -> tuple[list[dict[str, Any]], TransferReport]:
    """Pull the rows that posts need, stage after stage: each depends on the rows of the one before.

    `whose` is DATASET, and after colons what `choose` takes. Returns the stages' rows, needed and here, and what was
    transferred.
    """
    from pipeline import store_rows

    name, *parts = whose.split(":")
    dataset = project.prepared(name)
    dataset = dataset.only(choose(dataset.posts.posts, parts, f"--for {whose}"))
    stages, moved = [], TransferReport(0, 0, 0)
    with store_rows.open_stores(root) as stores:
        for step in store_rows.steps(dataset, stores):
            keys = list(step.plan.items)
            part = remotes.pull(root, url, keys)
            damaged = tuple(dict.fromkeys((*moved.damaged, *part.damaged)))
            n_before = part.n_present - moved.n_shards  # an earlier step's shards are present by now
            moved = TransferReport(moved.n_shards + part.n_shards, moved.n_bytes + part.n_bytes, n_before, damaged)
            n_here = len(keys) - len(stores[step.store].missing(keys))
            stages.append({"stage": step.plan.stage, "n_rows": len(keys), "n_here": n_here})
    return stages, moved


def forget(project: Project, root: Path, post_id: str, datasets: Sequence[str], urls: Sequence[str] = ()) -> Forgotten:
    """Remove the rows that only this post of these datasets uses, from remotes first: the store names their rows.

    DataError where one of the datasets has no such post.
    """
    from pipeline import store_rows

    own: set[str] = set()
    posts, others = [], set()
    with store_rows.open_stores(root) as stores:
        for name in datasets:
            dataset = project.prepared(name)
            post = next((one for one in dataset.posts.posts if one.id == post_id), None)
            if post is None:
                raise DataError(f"no post {post_id!r}", where=f"dataset {name}", todo="ids are in posts.parquet")
            own |= store_rows.keys_of_post(dataset, post, stores)
            others |= set(store_rows.other_producers(root, dataset.pipeline))
            posts.append(post)
        kept_for, used = _used_by_others(project, stores, posts, datasets)
        shared = sorted(own & used)
        n_kept = sum(len(shared) - len(store.missing(shared)) for store in stores.values())
    away = {url: remotes.purge(url, own - used) for url in urls}
    here = maintenance.forget(root, own - used)
    n_left = here.n_left + sum(one.n_left for one in away.values())
    recalled = {url: one.n_rows for url, one in away.items()}
    return Forgotten(here.n_rows, here.n_shards, n_left, n_kept, tuple(kept_for), tuple(sorted(others)), recalled)


def _used_by_others(
    project: Project, stores: Mapping[str, Store], posts: Sequence[Post], datasets: Sequence[str]
) -> tuple[list[str], set[str]]:
    """The project's other posts that share an image or sentence with these, and all keys that they need."""
    from pipeline import store_rows

    names: list[str] = []
    used: set[str] = set()
    for name in prepared(project):
        dataset = project.prepared(name)
        forgotten = {post.id for post in posts} if name in datasets else set()
        others = [one for one in dataset.posts.posts if one.id not in forgotten]
        sharers = {one.id: one for post in posts for one in store_rows.sharing(post, others)}
        if sharers:
            names += [f"{one} ({name})" for one in sharers]
            needed = store_rows.steps(dataset.only(list(sharers.values())), stores)
            used |= {key for step in needed for key in step.plan.items}
    return names, used

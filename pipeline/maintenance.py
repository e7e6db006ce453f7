"""Maintenance of the store by dataset: recompute some rows, pull those that posts need, forget a post."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import maintenance, remotes
from cache.remotes import TransferReport
from pipeline import store_rows
from pipeline.store_rows import PreparedDataset
from schema.errors import ConfigError, DataError
from schema.records import SPLITS, Post

if TYPE_CHECKING:
    from cache.store import Store


@dataclass(frozen=True)
class Forgotten:
    """What `forget` removed: rows, and shards rewritten for it; `n_left`: rows of the post that a final check found.

    `n_kept` rows stay because the posts `kept_for` need them; `others`: producers whose rows cannot be named by post;
    `recalled`: rows removed from each remote. `n_left` counts those of the remotes too.
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


def choose(posts: Sequence[Post], parts: Sequence[str], where: str) -> list[Post]:
    """Some of a dataset's posts: a part is a split, or a number N for the first N posts of each split.

    ConfigError for a part that is neither, or that leaves no post.
    """
    chosen = list(posts)
    for part in parts:
        split = {"valid": "dev"}.get(part, part)
        if part.isdecimal():
            chosen = [post for name in SPLITS for post in [one for one in chosen if one.split == name][: int(part)]]
        elif split in SPLITS:
            chosen = [post for post in chosen if post.split == split]
        else:
            todo = f"use {', '.join(SPLITS)}, or a number of posts"
            raise ConfigError("no such part of a dataset", where=where, found=repr(part), todo=todo)
    if not chosen:
        raise ConfigError("no post in this part of the dataset", where=where)
    return chosen


def recompute(
    datasets: Mapping[str, PreparedDataset], root: Path, n_rows: int, seed: int | None
) -> dict[str, dict[str, Any]]:
    """By dataset: how many rows were computed again, and a line for each that changed."""
    report = {}
    with store_rows.open_stores(root) as stores:
        for name, dataset in datasets.items():
            rows = store_rows.recompute(dataset, stores, n_rows, random.Random(seed))
            moved = [f"{row.stage}, post {row.post_id}, row {row.key}: {row.change}" for row in rows if row.change]
            report[name] = {"n_rows": len(rows), "moved": moved}
    return report


def pull(dataset: PreparedDataset, root: Path, url: str) -> tuple[list[dict[str, Any]], TransferReport]:
    """Pull the rows that a dataset's posts need, stage after stage: each depends on the rows of the one before.

    Returns the number of rows of each stage, needed and here, and what was transferred.
    """
    stages, total = [], TransferReport(0, 0, 0)
    with store_rows.open_stores(root) as stores:
        for step in store_rows.steps(dataset, stores):
            keys = list(step.plan.items)
            part = remotes.pull(root, url, keys)
            damaged = tuple(dict.fromkeys((*total.damaged, *part.damaged)))
            n_present = part.n_present - total.n_shards  # an earlier step's shards are present by now
            total = TransferReport(total.n_shards + part.n_shards, total.n_bytes + part.n_bytes, n_present, damaged)
            n_here = len(keys) - len(stores[step.store].missing(keys))
            stages.append({"stage": step.plan.stage, "n_rows": len(keys), "n_here": n_here})
    return stages, total


def forget(
    post_id: str,
    datasets: Mapping[str, PreparedDataset],
    project: Mapping[str, PreparedDataset],
    root: Path,
    urls: Sequence[str] = (),
) -> Forgotten:
    """Remove the rows that only this post of `datasets` uses; `project`: all datasets whose posts may share rows.

    Remotes come first, since the store is what names their rows. DataError where a dataset has no such post.
    """
    own: set[str] = set()
    posts, others = [], set()
    with store_rows.open_stores(root) as stores:
        for name, dataset in datasets.items():
            post = next((one for one in dataset.posts.posts if one.id == post_id), None)
            if post is None:
                raise DataError(f"no post {post_id!r}", where=f"dataset {name}", todo="ids are in posts.parquet")
            own |= store_rows.keys_of_post(dataset, post, stores)
            others |= set(store_rows.other_producers(root, dataset.pipeline))
            posts.append(post)
        kept_for, used = _used_by_others(posts, datasets, project, stores)
        shared = sorted(own & used)
        n_kept = sum(len(shared) - len(store.missing(shared)) for store in stores.values())
    away = {url: remotes.purge(url, own - used) for url in urls}
    here = maintenance.forget(root, own - used)
    n_left = here.n_left + sum(one.n_left for one in away.values())
    recalled = {url: one.n_rows for url, one in away.items()}
    return Forgotten(here.n_rows, here.n_shards, n_left, n_kept, tuple(kept_for), tuple(sorted(others)), recalled)


def _used_by_others(
    posts: Sequence[Post],
    datasets: Mapping[str, PreparedDataset],
    project: Mapping[str, PreparedDataset],
    stores: Mapping[str, Store],
) -> tuple[list[str], set[str]]:
    """The project's other posts that share an image or sentence with these, and all keys that they need."""
    names: list[str] = []
    used: set[str] = set()
    for name, dataset in project.items():
        forgotten = {post.id for post in posts} if name in datasets else set()
        others = [post for post in dataset.posts.posts if post.id not in forgotten]
        sharers = {one.id: one for post in posts for one in store_rows.sharing(post, others)}
        if sharers:
            names += [f"{one} ({name})" for one in sharers]
            needed = store_rows.steps(dataset.only(list(sharers.values())), stores)
            used |= {key for step in needed for key in step.plan.items}
    return names, used

"""Faults: killed writers, writers at once, flipped and missing bytes, swapped names, a store in use."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cache.maintenance import forget, verify
from cache.packs import Objects, PackMeta, write_pack
from cache.store import Store
from schema.errors import MissingKeys
from schema.records import Region
from tests.cache.rows import (
    KINDS,
    array_of,
    fill,
    flip,
    in_child,
    key_of,
    only_directory,
    rows_of,
    same,
    shard_paths,
    stored_keys,
    wait,
)

N_POSTS, ROWS_A_POST = 60, 3


def job(folder: Path, log: Path) -> None:
    """A stage in small: compute what is missing post by post, flush now and then, publish a pack at the end."""
    with Store(folder / "store", producer={"name": "job"}) as store, log.open("a") as flushed:
        for post in range(N_POSTS):
            names = [key_of(post * ROWS_A_POST + at) for at in range(ROWS_A_POST)]
            store.put({key: features_of(key) for key in store.missing(names)})
            if post % 4 == 3:
                store.flush()
                flushed.write(f"{post}\n")
                flushed.flush()
        posts = ((f"post-{post}", objects_of(store, post)) for post in range(N_POSTS))
        write_pack(folder / "pack", PackMeta(8, "float16", 4, ()), posts)


def features_of(key: str) -> np.ndarray:
    return np.random.default_rng(int(key[:8], 16)).normal(size=8).astype("f2")


def objects_of(store: Store, post: int) -> Objects:
    values = store.get([key_of(post * ROWS_A_POST + at) for at in range(ROWS_A_POST)])
    return Objects(np.stack(values), tuple(Region("image", str(at), None, None, 1.0) for at in range(ROWS_A_POST)))


def kill_at_random(folder: Path, n_kills: int) -> int:
    """Start the job again and again, killed at random moments of a whole run's time; returns how many kills hit."""
    log, rng, hits = folder / "log", np.random.default_rng(n_kills), 0
    for round_ in range(n_kills):
        if round_ % 3 == 2:  # a fresh start now and then, so that kills fall everywhere
            for path in shard_paths(folder) if (folder / "store").is_dir() else ():
                path.unlink()
            log.unlink(missing_ok=True)
        pid = in_child(lambda: job(folder, log))
        time.sleep(float(rng.uniform(0, 0.12)))
        os.kill(pid, signal.SIGKILL)
        hits += wait(pid) == -signal.SIGKILL
        assert verify(folder / "store").clean
        posts = [int(line) for line in log.read_text().split()] if log.exists() else []
        names = [key_of(index) for index in range((max(posts, default=-1) + 1) * ROWS_A_POST)]
        with Store(folder / "store") as store:
            found = store.get(names)
        assert all(same(value, features_of(key)) for value, key in zip(found, names, strict=True))
    return hits


@pytest.mark.parametrize("n_kills", [20, pytest.param(200, marks=pytest.mark.long)])
def test_killed_writers_leave_a_whole_store(folder: Path, n_kills: int) -> None:
    assert kill_at_random(folder, n_kills) >= n_kills // 2
    assert wait(in_child(lambda: job(folder, folder / "log"))) == 0
    assert wait(in_child(lambda: job(folder / "unbroken", folder / "log2"))) == 0
    resumed = {path.name: path.read_bytes() for path in (folder / "pack").iterdir()}
    assert resumed == {path.name: path.read_bytes() for path in (folder / "unbroken" / "pack").iterdir()}
    Store(folder / "store")
    assert only_directory(folder / "store").foreign_files() == []


def put_overlapping(folder: Path, worker: int, schema: pa.Schema | None) -> None:
    value = array_of if schema is None else rows_of
    order = np.random.default_rng(worker).permutation(60)
    with Store(folder, schema=schema) as store:
        for at, index in enumerate(order.tolist()):
            store.put({key_of(index): value(key_of(index))})
            if at % (5 + worker) == 0:
                store.flush()
        names = [key_of(index) for index in range(60)]
        assert all(same(*pair) for pair in zip(store.get(names), map(value, names), strict=True))


@KINDS
def test_eight_processes_put_overlapping_keys(folder: Path, schema: pa.Schema | None, value: Any) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        pool.starmap(put_overlapping, [(folder, worker, schema) for worker in range(8)])
    names = sorted(key_of(index) for index in range(60))
    with Store(folder, schema=schema) as store:
        assert stored_keys(folder) == names
        assert all(same(*pair) for pair in zip(store.get(names), map(value, names), strict=True))
    assert verify(folder).clean
    assert only_directory(folder).foreign_files() == []


def assert_right_or_missing(folder: Path, names: list[str], schema: pa.Schema | None, value: Any) -> None:
    with Store(folder, schema=schema) as store:
        for key in names:
            try:
                (found,) = store.get([key])
            except MissingKeys:
                continue
            assert same(found, value(key))


@KINDS
def test_every_flipped_byte_of_a_shard_is_found_and_never_read(
    folder: Path, schema: pa.Schema | None, value: Any
) -> None:
    names = fill(folder, range(12), schema=schema)
    (path,) = shard_paths(folder)
    good, rng = path.read_bytes(), np.random.default_rng(1)
    for at in [0, len(good) - 1, *rng.integers(0, len(good), 298).tolist()]:
        for look in (lambda: assert_right_or_missing(folder, names, schema, value), lambda: found_by_verify(path)):
            path.write_bytes(good)
            flip(path, at, int(rng.integers(8)))
            look()
    path.write_bytes(good)
    assert verify(folder).clean


def found_by_verify(path: Path) -> None:
    report = verify(path.parents[1])
    assert [damaged for damaged, _ in report.problems] == [path]
    assert not path.exists() or path.parent.name == "index"


def test_every_flipped_byte_of_an_index_is_found_and_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.store.N_UNINDEXED", 3)
    names = fill(folder, range(20), n_flushes=3)
    (path,) = only_directory(folder).index.glob("*.h5")
    good, rng = path.read_bytes(), np.random.default_rng(2)
    for at in [0, len(good) - 1, *rng.integers(0, len(good), 100).tolist()]:
        path.write_bytes(good)
        flip(path, at, int(rng.integers(8)))
        with Store(folder) as store:
            assert store.missing(names) == []
            assert all(same(*pair) for pair in zip(store.get(names), map(array_of, names), strict=True))
        assert path.read_bytes() == good, "the bad index made room for a good one"
        flip(path, at, int(rng.integers(8)))
        assert [damaged for damaged, _ in verify(folder).problems] == [path]


@KINDS
def test_truncated_shards_are_found_and_never_read(folder: Path, schema: pa.Schema | None, value: Any) -> None:
    names = fill(folder, range(12), schema=schema)
    (path,) = shard_paths(folder)
    good, rng = path.read_bytes(), np.random.default_rng(3)
    for keep in [0, 1, len(good) - 1, *rng.integers(0, len(good), 47).tolist()]:
        path.write_bytes(good[:keep])
        assert_right_or_missing(folder, names, schema, value)
        path.write_bytes(good[:keep])
        found_by_verify(path)


def test_a_cut_shard_counts_as_missing_at_once_though_the_index_knows_it(folder: Path) -> None:
    names = fill(folder, range(32), n_flushes=16)
    path = shard_paths(folder)[0]
    os.truncate(path, path.stat().st_size - 1)
    with Store(folder) as store:
        assert len(store.missing(names)) == 2


@pytest.mark.parametrize("check", ["always", "shard", "never"])
def test_a_shard_cut_under_an_open_store_is_an_error_not_a_crash(folder: Path, check: Any) -> None:
    names = fill(folder, range(12))
    (path,) = shard_paths(folder)
    with Store(folder, check=check) as store:
        store.get(names[:1])
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(MissingKeys):
            store.get(names)


@pytest.mark.parametrize("indexed", [True, False])
@KINDS
def test_swapped_names_are_found_and_never_read(
    folder: Path, schema: pa.Schema | None, value: Any, indexed: bool
) -> None:
    names = fill(folder, range(40), n_flushes=17, schema=schema)
    if not indexed:
        next(only_directory(folder).index.glob("*.h5")).unlink()
    first, second = shard_paths(folder)[3:5]
    held = (first.read_bytes(), second.read_bytes())
    for _ in range(2):
        second.write_bytes(held[0])
        first.write_bytes(held[1])
        assert_right_or_missing(folder, names, schema, value)
    second.write_bytes(held[0])
    first.write_bytes(held[1])
    assert {path for path, _ in verify(folder).problems} == {first, second}
    with Store(folder, schema=schema) as store:
        store.put({key: value(key) for key in store.missing(names)})
        assert all(same(*pair) for pair in zip(store.get(names), map(value, names), strict=True))


def test_what_is_no_shard_is_left_alone_and_told(folder: Path) -> None:
    names = fill(folder, range(5))
    (path,) = shard_paths(folder)
    (path.parent / "notes.txt").write_text("mine")
    (path.parent / ("ab" * 32 + ".h5")).write_bytes(b"no shard at all")
    assert Store(folder).missing(names) == []
    assert stored_keys(folder) == sorted(names)
    problems = {path.name: what for path, what in verify(folder).problems}
    assert problems == {"notes.txt": "does not belong to the store"}
    assert (only_directory(folder).quarantine / ("ab" * 32 + ".txt")).read_text().startswith("the shard cannot be read")
    (path.parent / ("cd" * 32 + ".h5") / "inside").mkdir(parents=True)
    assert len(verify(folder).problems) == 2
    assert forget(folder, names[:1]).n_left == 0
    assert list(only_directory(folder).quarantine.iterdir()) == []

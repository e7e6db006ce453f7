"""Joining shards loses nothing, leaving rows out leaves nothing."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cache import keys
from cache.maintenance import CompactReport, compact, forget, stats, verify
from cache.store import Store
from tests.cache.rows import KINDS, array_of, fill, flip, key_of, only_directory, same, shard_paths


@KINDS
def test_compact_keeps_every_row(folder: Path, schema: pa.Schema | None, value: Any) -> None:
    names = fill(folder, range(40), n_flushes=20, schema=schema)
    with Store(folder, schema=schema, producer={"name": "other"}) as store:
        store.put({key_of(99): value(key_of(99))})
    with Store(folder, schema=schema) as reader:
        reader.get(names[:7])
        assert compact(folder) == CompactReport(21, 2, 0)
        assert all(same(*pair) for pair in zip(reader.get(names), map(value, names), strict=True))
    assert verify(folder).clean
    assert stats(folder)[0].rows == {"other": 1, "test": 40}
    with Store(folder, schema=schema) as store:
        assert store.missing([*names, key_of(99)]) == []
    assert compact(folder) == CompactReport(2, 2, 0)


def test_compact_drops_repeats_and_keeps_ages(folder: Path) -> None:
    fill(folder / "a", range(10))
    fill(folder / "b", range(6))
    (moved,) = shard_paths(folder / "b")
    (kept,) = shard_paths(folder / "a")
    moved.rename(kept.with_name(moved.name))
    for path in shard_paths(folder / "a"):
        os.utime(path, (1e9, 1e9))
    assert compact(folder / "a") == CompactReport(2, 1, 6)
    assert shard_paths(folder / "a") == [kept]  # the same rows are the same bytes
    assert kept.stat().st_mtime == 1e9


def test_compact_sets_damage_aside(folder: Path) -> None:
    names = fill(folder, range(30), n_flushes=3)
    bad = shard_paths(folder)[1]
    flip(bad, bad.stat().st_size - 60)
    assert compact(folder) == CompactReport(3, 1, 0)
    assert len(Store(folder).missing(names)) == 10


def test_compact_leaves_big_shards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, range(30), n_flushes=6)
    sizes = sorted(path.stat().st_size for path in shard_paths(folder))
    monkeypatch.setattr("cache.shards.ArrayCodec.compact_bytes", 2 * sizes[-1])
    assert compact(folder).n_after == 3
    monkeypatch.setattr("cache.shards.ArrayCodec.compact_bytes", sizes[0])
    assert compact(folder) == CompactReport(3, 3, 0)


def many_times(folder: Path, worker: int) -> None:
    for at in range(6):
        fill(folder, range(worker * 100 + at * 10, worker * 100 + at * 10 + 12))
        compact(folder)


def test_compacting_and_writing_at_once_loses_nothing(folder: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(many_times, [(folder, worker) for worker in range(4)])
    names = [key_of(worker * 100 + at) for worker in range(4) for at in range(62)]
    with Store(folder) as store:
        assert all(same(*pair) for pair in zip(store.get(names), map(array_of, names), strict=True))
    assert verify(folder).clean
    assert only_directory(folder).foreign_files() == []


@KINDS
def test_forget_leaves_no_trace(folder: Path, schema: pa.Schema | None, value: Any) -> None:
    names = fill(folder, range(40), n_flushes=17, schema=schema)
    bad = shard_paths(folder)[5]
    flip(bad, bad.stat().st_size // 2)
    verify(folder)
    with Store(folder, schema=schema) as store:
        store.put({key: value(key) for key in store.missing(names)})
    unwanted = [names[3], names[4], names[39], key_of(1000)]
    report = forget(folder, unwanted)
    assert (report.n_rows, report.n_left) == (3, 0)
    assert report.n_shards in (2, 3)
    with Store(folder, schema=schema) as store:
        assert store.missing(names) == unwanted[:3]
        rest = [key for key in names if key not in unwanted]
        assert all(same(*pair) for pair in zip(store.get(rest), map(value, rest), strict=True))
    assert verify(folder).clean
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix == ".h5":
            assert not any(keys.pack_keys([key])[0] in path.read_bytes() for key in unwanted), path
    assert list(only_directory(folder).quarantine.iterdir()) == []


def test_forgetting_a_whole_shard_removes_it(folder: Path) -> None:
    names = fill(folder, range(4), n_flushes=2)
    assert forget(folder, names[:2]).n_shards == 1
    assert len(shard_paths(folder)) == 1
    assert forget(folder, names).n_rows == 2
    assert shard_paths(folder) == []

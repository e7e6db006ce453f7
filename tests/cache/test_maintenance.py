"""Statistics, verification, and what may be removed."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from cache import atomic
from cache.maintenance import DAY_S, gc, stats, verify
from cache.maintenance import drop as drop_rows
from cache.shard_directory import ShardDirectory
from cache.store import Store
from schema.errors import StoreError
from tests.cache.rows import SCHEMA, array_of, fill, flip, key_of, only_directory, rows_of, shard_paths


def age(path: Path, days: float) -> None:
    at = time.time() - days * DAY_S
    os.utime(path, (at, at))


def test_stats_count_by_producer(folder: Path) -> None:
    fill(folder / "regions", range(7), n_flushes=3)
    fill(folder / "phrases", range(4), schema=SCHEMA)
    with Store(folder / "regions") as store:
        store.put({key_of(50): array_of(key_of(50))})
    flip(shard_paths(folder / "phrases")[0], 100)
    verify(folder / "phrases")
    phrases, regions = stats(folder)
    assert (phrases.directory.split("/")[0], phrases.n_shards, phrases.n_quarantined, phrases.rows) == (
        "phrases",
        0,
        1,
        {},
    )
    assert (regions.directory, regions.n_shards, regions.rows) == ("regions/arrays", 4, {"test": 7, "unnamed": 1})
    assert regions.n_bytes == sum(path.stat().st_size for path in shard_paths(folder / "regions"))
    assert stats(folder / "nothing") == []


def test_verify_reads_everything(folder: Path) -> None:
    fill(folder / "a", range(17), n_flushes=17)
    fill(folder / "b", range(3), schema=SCHEMA)
    report = verify(folder)
    assert report.clean
    assert report.n_shards == 18
    assert report.n_bytes == sum(path.stat().st_size for path in shard_paths(folder / "a") + shard_paths(folder / "b"))


def test_gc_goes_by_age_and_spares_the_young(folder: Path) -> None:
    names = fill(folder, range(4), n_flushes=4)
    paths = shard_paths(folder)
    for path, days in zip(paths, (400, 100, 20, 3), strict=True):
        age(path, days)
    dry = gc(folder, max_age_days=90, dry_run=True)
    assert dry.paths == (paths[0], paths[1])
    assert all(path.exists() for path in paths)
    assert (dry.n_kept, dry.n_spared) == (2, 0)
    assert dry.n_bytes == paths[0].stat().st_size + paths[1].stat().st_size
    assert gc(folder, max_age_days=90) == dry
    assert [path.exists() for path in paths] == [False, False, True, True]
    assert gc(folder, max_age_days=1).n_spared == 1
    assert [path.exists() for path in paths] == [False, False, False, True]
    with Store(folder) as store:
        assert len(store.missing(names)) == 3


def test_gc_asks_the_disk_for_the_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is a year ahead takes nothing that is young to everybody else."""
    fill(folder, range(2), n_flushes=2)
    old, young = shard_paths(folder)
    age(old, 40)
    now = time.time()
    monkeypatch.setattr("cache.maintenance.time.time", lambda: now + 365 * DAY_S)
    assert gc(folder, max_age_days=30).paths == (old,)
    assert young.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["arrays"], "no trace of having asked"


def test_gc_goes_by_size_longest_unused_first(folder: Path) -> None:
    fill(folder / "a", range(3), n_flushes=3)
    fill(folder / "b", range(3), n_flushes=1, schema=SCHEMA)
    paths = [*shard_paths(folder / "a"), *shard_paths(folder / "b")]
    for path, days in zip(paths, (50, 70, 60, 80), strict=True):
        age(path, days)
    total = sum(path.stat().st_size for path in paths)
    report = gc(folder, max_bytes=total - paths[3].stat().st_size - 1)
    assert report.paths == (paths[3], paths[1])
    assert report.kept_bytes == paths[0].stat().st_size + paths[2].stat().st_size
    assert gc(folder, max_bytes=10**9).paths == ()
    with pytest.raises(StoreError, match=r"gc needs a limit; give max_age_days, max_bytes or both"):
        gc(folder)


def test_gc_sweeps_waste(folder: Path) -> None:
    fill(folder, range(3))
    directory = only_directory(folder)
    old, young = (
        directory.shards / ".x.tmp-0123456789ab-7-0123456789ab",
        directory.shards / ".x.tmp-0123456789ab-8-0123456789ab",
    )
    bad = directory.quarantine / "old.h5"
    for path in (old, young, bad):
        path.write_text("x")
    age(old, 2)
    age(bad, 15)
    assert set(gc(folder, max_age_days=90).paths) == {old, bad}
    assert young.exists()
    assert not old.exists()


def test_a_dead_writers_temporary_goes_at_once(folder: Path) -> None:
    fill(folder, range(3))
    pid = os.fork()
    if not pid:
        with atomic.file(only_directory(folder).shards / "abc") as temporary:
            temporary.write_text("half")
            os._exit(0)
    os.waitpid(pid, 0)
    assert len(only_directory(folder).foreign_files()) == 1
    with atomic.file(only_directory(folder).shards / "abc") as mine:
        mine.write_text("half")
        assert verify(folder).clean
        assert only_directory(folder).foreign_files() == [mine]


def test_drop_by_producer(folder: Path) -> None:
    producers: list[dict[str, Any]] = [{"name": "a", "version": 1}, {"name": "a", "version": 2}, {"name": "b"}, {}]
    for at, producer in enumerate(producers):
        with Store(folder, producer=producer) as store:
            store.put({key_of(at): array_of(key_of(at))})
    names = [key_of(at) for at in range(4)]
    dry = drop_rows(folder, {"producer": "a", "version": "2"}, dry_run=True)
    assert (len(dry.paths), dry.n_kept) == (1, 3)
    assert Store(folder).missing(names) == []
    assert drop_rows(folder, {"producer": "a", "version": "2"}) == dry
    assert Store(folder).missing(names) == [names[1]]
    assert len(drop_rows(folder, {"name": "a"}).paths) == 1
    assert drop_rows(folder, {"producer": "z"}).paths == ()
    assert Store(folder).missing(names) == names[:2]
    with Store(folder, producer={"parser": "embedded", "version": "1"}) as store:
        store.put({key_of(7): array_of(key_of(7))})
    assert stats(folder)[0].rows["embedded"] == 1
    assert len(drop_rows(folder, {"producer": "embedded"}).paths) == 1
    with pytest.raises(StoreError, match="drop needs a condition"):
        drop_rows(folder, {})


def test_folders_of_other_kinds_are_ignored(folder: Path) -> None:
    (folder / "x" / "other" / "shards").mkdir(parents=True)
    fill(folder / "s", range(2), schema=SCHEMA)
    assert isinstance(only_directory(folder), ShardDirectory)
    assert rows_of(key_of(0)) == Store(folder / "s", schema=SCHEMA).get([key_of(0)])[0]

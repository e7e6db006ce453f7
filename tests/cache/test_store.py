"""The store keeps its word: first values stay, what is flushed is durable, nothing wrong is ever returned."""

import logging
import multiprocessing
import os
import pickle
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cache.maintenance import verify
from cache.store import Store, root
from schema.errors import MissingKeys, StoreError
from tests.cache.rows import (
    KINDS,
    SCHEMA,
    array_of,
    fill,
    flip,
    key_of,
    only_directory,
    same,
    shard_paths,
    stored_keys,
)


@KINDS
def test_what_was_put_is_got(folder: Path, schema: pa.Schema | None, value: Any) -> None:
    names = [key_of(index) for index in range(200)]
    with Store(folder / "s", schema=schema) as store:
        store.put({key: value(key) for key in names[:150]})
        assert all(same(*pair) for pair in zip(store.get(names[:150]), map(value, names[:150]), strict=True))
        store.flush()
        store.put({key: value(key) for key in names[100:]})
        mixed = [names[180], names[3], names[180], names[77]]
        assert all(same(*pair) for pair in zip(store.get(mixed), map(value, mixed), strict=True))
    for check in ("always", "shard", "never"):
        with Store(folder / "s", schema=schema, check=check) as store:
            assert store.missing(names) == []
            assert stored_keys(folder / "s") == sorted(names)
            assert all(same(*pair) for pair in zip(store.get(names), map(value, names), strict=True))


def test_missing_keeps_order_and_drops_repeats(folder: Path) -> None:
    names = fill(folder / "s", range(10), n_flushes=3)
    absent = [key_of(index) for index in (50, 20, 40)]
    with Store(folder / "s") as store:
        assert store.missing([absent[0], names[0], absent[1], absent[0], *names, absent[2], absent[1]]) == absent
        assert store.missing([]) == []
        with pytest.raises(MissingKeys, match=r"2 key\(s\) not in the store") as raised:
            store.get([names[0], absent[0], absent[1], absent[0]])
        assert raised.value.keys == absent[:2]


@pytest.mark.parametrize("key", ["", "ab" * 31, "AB" * 32, "zz" * 32, " " + "a" * 63, "a" * 65, "é" * 64])
def test_a_key_is_64_lowercase_hex_digits(folder: Path, key: str) -> None:
    with Store(folder / "s") as store:
        for use in (
            lambda: store.missing([key]),
            lambda: store.get([key]),
            lambda: store.put({key: np.zeros(1, "f4")}),
        ):
            with pytest.raises(StoreError, match="a key is 64 lowercase hex digits"):
                use()


def test_any_hex_is_a_key(folder: Path) -> None:
    names = [f"{0:064x}", f"{1:064x}", f"{256:064x}", f"{2**256 - 1:064x}", f"{1 << 248:064x}", f"{1 << 252:064x}"]
    with Store(folder / "s") as store:
        store.put({key: np.full(3, at, "f4") for at, key in enumerate(names)})
    with Store(folder / "s") as store:
        assert [int(value[0]) for value in store.get(names)] == list(range(6))
        assert store.missing([f"{2:064x}", *names]) == [f"{2:064x}"]


def test_the_first_value_stays(folder: Path) -> None:
    key = key_of(1)
    with Store(folder / "s") as first, Store(folder / "s") as second:
        first.put({key: np.zeros(2, "f4")})
        first.put({key: np.ones(2, "f4")})
        first.flush()
        second.put({key: np.ones(2, "f4")})
        second.flush()
        assert first.get([key])[0].tolist() == second.get([key])[0].tolist() == [0, 0]
    assert len(shard_paths(folder / "s")) == 1


def test_values_are_private(folder: Path) -> None:
    key, value = key_of(1), np.zeros(3, "f2")
    with Store(folder / "s") as store:
        store.put({key: value})
        value[:] = 7
        store.get([key])[0][:] = 8
        assert store.get([key])[0].tolist() == [0, 0, 0]
        store.flush()
        store.get([key])[0][:] = 9
        assert store.get([key])[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "value", [np.zeros(2), np.zeros(2, "i4"), np.zeros(2, ">f4"), [1.0], 1.0, np.zeros((1,) * 9, "f4")]
)
def test_other_values_are_refused_and_nothing_is_taken(folder: Path, value: Any) -> None:
    with Store(folder / "s") as store:
        with pytest.raises(StoreError, match="a value must be a float16 or float32 numpy array"):
            store.put({key_of(1): np.zeros(1, "f4"), key_of(2): value})
        assert store.missing([key_of(1)]) == [key_of(1)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"other": 1}], "fields that are not in the schema: other"),
        ([{"start": "x"}], "a row does not fit the schema"),
        ([{"start": 2**40}], "a row does not fit the schema"),
        ({"start": 1}, "a value must be a list of row dicts"),
        (np.zeros(2), "a value must be a list of row dicts"),
    ],
)
def test_rows_that_do_not_fit_are_refused(folder: Path, value: Any, message: str) -> None:
    with Store(folder / "s", schema=SCHEMA) as store, pytest.raises(StoreError, match=message):
        store.put({key_of(1): value})


def test_rows_are_as_the_schema_keeps_them(folder: Path) -> None:
    with Store(folder / "s", schema=SCHEMA) as store:
        store.put({key_of(1): [{"start": 1, "score": 0.1}], key_of(2): []})
        before = store.get([key_of(1), key_of(2)])
        store.flush()
        assert store.get([key_of(1), key_of(2)]) == before
    assert before == [[{"start": 1, "text": None, "score": float(np.float32(0.1))}], []]


def test_kinds_do_not_mix(folder: Path) -> None:
    """One folder, three kinds: each opens on what it wrote alone."""
    fill(folder / "s", range(3))
    fill(folder / "s", range(3, 5), schema=SCHEMA)
    fill(folder / "s", range(0))
    other, names = pa.schema({"start": pa.int64()}), list(map(key_of, range(5)))
    with Store(folder / "s", schema=other) as store:
        assert store.missing(names) == names
        store.put({key_of(0): [{"start": 1}]})
    with Store(folder / "s") as store:
        assert store.missing(names) == names[3:]
    with Store(folder / "s", schema=SCHEMA) as store:
        assert store.missing(names) == names[:3]


def test_others_rows_are_seen_without_reopening(folder: Path) -> None:
    with Store(folder / "s") as reader:
        names = fill(folder / "s", range(4), n_flushes=2)
        assert reader.missing(names) == []
        assert same(reader.get(names)[2], array_of(names[2]))
        names += fill(folder / "s", range(4, 6))
        assert reader.missing(names) == []


def test_a_reader_finds_rows_that_moved_to_another_shard(folder: Path) -> None:
    names = fill(folder / "s", range(20), n_flushes=4)
    with Store(folder / "s") as reader:
        reader.get(names[:5])
        paths = shard_paths(folder / "s")
        with Store(folder / "t") as other:
            other.put({key: array_of(key) for key in names})
        (joined,) = shard_paths(folder / "t")
        joined.rename(paths[0].with_name(joined.name))
        for path in paths:
            path.unlink()
        assert all(same(*pair) for pair in zip(reader.get(names), map(array_of, names), strict=True))
        paths[0].with_name(joined.name).unlink()
        with pytest.raises(MissingKeys):
            Store(folder / "s").get(names)


def n_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_many_shards_few_handles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache.store.N_READERS", 4)
    names = fill(folder / "s", range(20), n_flushes=20)
    before = n_handles()
    with Store(folder / "s") as store:
        assert all(same(*pair) for pair in zip(store.get(names), map(array_of, names), strict=True))
        assert n_handles() == before + 4
        assert same(store.get(names[:1])[0], array_of(names[0]))
    assert n_handles() == before


def test_shards_stay_small_without_being_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache.store.WAITING_MAX_BYTES", 10_000)
    with Store(folder / "s") as store:
        store.put({key_of(index): np.full(500, index, "f2") for index in range(50)})
        assert len(shard_paths(folder / "s")) == 5
        assert [int(value[0]) for value in store.get(list(map(key_of, range(50))))] == list(range(50))
        with pytest.raises(StoreError, match="a value has at most"):
            store.put({key_of(99): np.zeros(40 << 20, "f2")})


def test_an_error_under_way_keeps_what_was_put(folder: Path) -> None:
    def work() -> None:
        with Store(folder / "s") as store:
            store.put({key_of(1): array_of(key_of(1))})
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        work()
    assert Store(folder / "s").missing([key_of(1)]) == []


def read_some(store: Store, names: list[str], put: int) -> bool:
    store.put({key_of(put): array_of(key_of(put))})
    store.flush()
    return all(same(*pair) for pair in zip(store.get(names), map(array_of, names), strict=True))


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_use_an_open_store(folder: Path, method: str) -> None:
    names = fill(folder / "s", range(40), n_flushes=5)
    with Store(folder / "s") as store:
        store.get(names[:3])
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.starmap(read_some, [(store, names, 100)]) == [True]
        assert store.missing([key_of(100)]) == []
    assert pickle.loads(pickle.dumps(store)).missing(names) == []


def test_a_full_disk_is_a_clear_error_and_the_store_goes_on(folder: Path) -> None:
    names = fill(folder / "s", range(5))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = Store(folder / "s")
    store.put({key_of(index): np.full(4000, index, "f4") for index in range(100, 110)})
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"a shard cannot be written: File too large; what was flushed is safe"):
            store.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert verify(folder / "s").clean
    assert [path.name for path in only_directory(folder / "s").foreign_files()] == []
    assert stored_keys(folder / "s") == sorted(names)
    store.flush()  # space again: nothing was lost
    assert Store(folder / "s").get([key_of(107)])[0][0] == 107


def test_a_read_only_store_reads_and_says_so_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = fill(folder / "s", range(5))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root, who runs CI, may write anywhere
    with Store(folder / "s") as store:
        assert same(store.get(names)[0], array_of(names[0]))
        with pytest.raises(StoreError, match=r"the store is read-only; fix its permissions, or set FMIT_STORE"):
            store.put({key_of(50): np.zeros(1, "f4")})


def test_a_store_that_cannot_be_made(folder: Path) -> None:
    (folder / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"the store's folder cannot be created: File exists"):
        Store(folder / "file" / "s")
    with pytest.raises(StoreError, match="unknown check 'often'"):
        Store(folder / "s", check="often")  # type: ignore[arg-type]


def test_a_store_that_is_deleted_under_way_starts_anew(folder: Path) -> None:
    names = fill(folder / "s", range(5))
    with Store(folder / "s") as store:
        shutil.rmtree(folder / "s")
        assert store.missing(names) == names
        store.put({key: array_of(key) for key in names})
    assert Store(folder / "s").missing(names) == []


def test_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FMIT_STORE", raising=False)
    assert root() == Path(".fmit/store")
    monkeypatch.setenv("FMIT_STORE", "/team/store")
    assert root() == Path("/team/store")


def test_reading_renews_a_shards_time_once_a_day(folder: Path) -> None:
    names = fill(folder / "s", range(5))
    (path,) = shard_paths(folder / "s")
    os.utime(path, (1e9, 1e9))
    with Store(folder / "s") as store:
        assert path.stat().st_mtime == 1e9
        store.get(names)
    assert path.stat().st_mtime > 1.5e9


@KINDS
def test_a_damaged_shard_is_set_aside_and_recomputed(
    folder: Path, schema: pa.Schema | None, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    names = fill(folder / "s", range(40), n_flushes=2, schema=schema)
    bad = shard_paths(folder / "s")[0]
    with Store(folder / "s", schema=schema) as store:
        flip(bad, bad.stat().st_size // 2 if schema else bad.stat().st_size - 60)
        with caplog.at_level(logging.WARNING), pytest.raises(MissingKeys) as raised:
            store.get(names)
        assert len(raised.value.keys) == 20
        assert "damaged shard" in caplog.text
        assert "moved to quarantine/, its rows count as missing" in caplog.text
        assert store.missing(names) == raised.value.keys
        store.put({key: value(key) for key in raised.value.keys})
        assert all(same(*pair) for pair in zip(store.get(names), map(value, names), strict=True))
    assert verify(folder / "s").clean
    assert sorted(path.suffix for path in only_directory(folder / "s").quarantine.iterdir()) == [bad.suffix, ".txt"]


def test_a_row_in_two_shards_survives_the_loss_of_one(folder: Path) -> None:
    names = fill(folder / "s", range(20))
    fill(folder / "t", range(30))
    (path,) = shard_paths(folder / "t")
    path.rename(shard_paths(folder / "s")[0].with_name(path.name))
    for bad in shard_paths(folder / "s"):
        data = bad.read_bytes()
        with Store(folder / "s") as store:
            flip(bad, len(data) - 60)
            bad.with_suffix(".h5").write_bytes(data[: len(data) // 2])
            assert all(same(*pair) for pair in zip(store.get(names), map(array_of, names), strict=True))
        bad.write_bytes(data)

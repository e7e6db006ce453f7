"""Shards that a newer version wrote: left alone, sent on, told, never quarantined, never read."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cache import remotes
from cache.maintenance import compact, drop, forget, stats, verify
from cache.remotes import pull, push
from cache.shards import FORMAT, Newer
from cache.store import Store
from schema.errors import MissingKeys
from tests.cache.rows import KINDS, SCHEMA, fill, key_of, only_directory, same, shard_paths


@pytest.fixture(name="newer")
def newer_(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Fills a store as the next version would."""

    def filled(folder: Path, indexes: range, schema: pa.Schema | None = None, n_flushes: int = 1) -> list[Path]:
        before = set(folder.rglob("shards/*"))
        with monkeypatch.context() as patch:
            for module in ("shards", "shard_directory"):
                patch.setattr(f"cache.{module}.FORMAT", FORMAT + 1)
            fill(folder, indexes, n_flushes, schema)
        return sorted(set(folder.rglob("shards/*")) - before)

    return filled


@KINDS
def test_a_later_versions_shard_stays(
    folder: Path, newer: Any, schema: pa.Schema | None, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    names = fill(folder, range(10), schema=schema)
    (theirs,) = newer(folder, range(10, 20), schema)
    content = theirs.read_bytes()
    with Store(folder, schema=schema) as store:
        assert f"the shard has format {FORMAT + 1}, but this version reads {FORMAT}; install the version" in caplog.text
        absent = [key_of(index) for index in range(10, 20)]
        assert store.missing([*names, *absent]) == absent
        store.put({key: value(key) for key in absent})
        store.flush()
        assert all(same(*pair) for pair in zip(store.get(absent), map(value, absent), strict=True))
    found = verify(folder)
    assert (found.clean, found.n_shards, found.n_newer) == (True, 3, 1)
    assert (stats(folder)[0].rows, stats(folder)[0].n_newer) == ({"test": 10, "unnamed": 10}, 1)
    assert drop(folder, {"producer": "test"}, dry_run=True).n_kept == 1
    assert compact(folder).n_after == 3
    assert theirs.read_bytes() == content
    assert list(only_directory(folder).quarantine.iterdir()) == []


@KINDS
def test_an_index_that_a_later_version_wrote_leads_to_no_row(
    folder: Path, newer: Any, monkeypatch: pytest.MonkeyPatch, schema: pa.Schema | None, value: Any
) -> None:
    monkeypatch.setattr("cache.store.N_UNINDEXED", 2)
    newer(folder, range(10), schema, n_flushes=2)
    assert list(only_directory(folder).index.iterdir())
    names = [key_of(index) for index in range(10)]
    with Store(folder, schema=schema) as store:
        with pytest.raises(MissingKeys):
            store.get(names)
        absent = store.missing(names)
        assert len(absent) == 10
        store.put({key: value(key) for key in absent})
        assert all(same(*pair) for pair in zip(store.get(names), map(value, names), strict=True))
    assert len(shard_paths(folder)) == 3


def test_forgetting_needs_to_read_all_of_them(folder: Path, newer: Any) -> None:
    names = fill(folder, range(10))
    newer(folder, range(10, 20))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(Newer, match="install the version of fmit that wrote it"):
        forget(folder, names[:1])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_they_travel(folder: Path, newer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotes, "PAUSE_S", 0.0)
    fill(folder / "a" / "s", range(10), schema=SCHEMA)
    (theirs,) = newer(folder / "a" / "s", range(10, 20), SCHEMA)
    assert push(folder / "a", folder / "team").n_shards == 2
    assert pull(folder / "b", folder / "team", [key_of(3)]).n_shards == 2, "whose keys are unknown comes along"
    assert (folder / "b" / theirs.relative_to(folder / "a")).read_bytes() == theirs.read_bytes()

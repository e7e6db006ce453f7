"""The catalog: in line with the folder at little cost, and able to lose its index files at any time."""

from pathlib import Path
from typing import Any

import pytest

from cache.keys import pack_keys
from cache.shards import open_shard
from cache.store import N_UNINDEXED, Catalog
from tests.cache.rows import fill, only_directory, shard_paths


@pytest.fixture(name="opened")
def opened_(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The shards that are opened from now on."""
    opened: list[Path] = []

    def opening(path: Path, *arguments: Any) -> Any:
        opened.append(path)
        return open_shard(path, *arguments)

    monkeypatch.setattr("cache.shard_directory.open_shard", opening)
    return opened


def test_an_index_file_saves_opening_shards(folder: Path, opened: list[Path]) -> None:
    names = fill(folder, range(40), n_flushes=N_UNINDEXED + 3)
    opened.clear()
    catalog = Catalog(only_directory(folder), "always")
    assert len(opened) == 3
    assert catalog.index.find(pack_keys(names))[0].all()


def test_any_index_may_go(folder: Path) -> None:
    names = fill(folder, range(40), n_flushes=N_UNINDEXED)
    directory = only_directory(folder)
    (path,) = directory.index.glob("*.h5")
    path.unlink()
    catalog = Catalog(directory, "always")
    assert catalog.index.find(pack_keys(names))[0].all()
    assert not path.exists()
    catalog.save()
    assert path.exists(), "the same shards have the same index"


def test_indexes_of_two_writers_complete_each_other(folder: Path, opened: list[Path]) -> None:
    names = fill(folder, range(40), n_flushes=N_UNINDEXED)
    directory = only_directory(folder)
    (first,) = directory.index.glob("*.h5")
    kept = first.read_bytes()
    names += fill(folder, range(40, 80), n_flushes=N_UNINDEXED)
    for path in shard_paths(folder)[:2]:
        path.unlink()
    first.write_bytes(kept)
    assert len(list(directory.index.glob("*.h5"))) == 2
    opened.clear()
    catalog = Catalog(directory, "always")
    assert opened == []
    assert len(catalog.index.sizes) == 2 * N_UNINDEXED - 2
    assert 0 < catalog.index.find(pack_keys(names))[0].sum() < 80
    fill(folder, range(80, 120), n_flushes=N_UNINDEXED)
    assert len(list(directory.index.glob("*.h5"))) == 1


def test_a_scan_sees_what_came_and_went(folder: Path) -> None:
    names = fill(folder, range(6), n_flushes=3)
    directory = only_directory(folder)
    catalog = Catalog(directory, "always")
    assert catalog.refresh(), "within two seconds a folder may change unseen"
    gone = shard_paths(folder)[0]
    data = gone.read_bytes()
    gone.unlink()
    catalog.scan()
    assert catalog.index.find(pack_keys(names))[0].sum() == 4
    gone.write_bytes(data)
    catalog.scan()
    assert catalog.index.find(pack_keys(names))[0].all()
    catalog.remove(gone.stem)
    assert catalog.refresh()


def test_a_quiet_folder_is_not_scanned_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, range(6))
    monkeypatch.setattr("cache.store.RACY_NS", 0)
    directory = only_directory(folder)
    catalog = Catalog(directory, "always")
    assert not catalog.refresh()
    (directory.shards / "new").write_text("")
    assert catalog.refresh()


def test_a_failed_index_is_no_failure(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(folder, range(20), n_flushes=N_UNINDEXED - 1)
    directory = only_directory(folder)
    directory.index.rmdir()
    directory.index.write_text("in the way")
    names = fill(folder, range(20, 24), n_flushes=2)
    assert "a shard cannot be written" in caplog.text
    assert Catalog(directory, "always").index.find(pack_keys(names))[0].all()

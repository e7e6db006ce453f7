"""What was pushed and is taken back is nowhere at the remote, and everything else is still there."""

from pathlib import Path
from typing import Any

import pytest

from cache import keys, remotes
from cache.maintenance import verify
from cache.remotes import pull, push
from cache.store import Store
from schema.errors import StoreError
from tests.cache import remote_faults
from tests.cache.rows import SCHEMA, array_of, fill, flip, key_of, rows_of, same, shard_paths


@pytest.fixture(name="url", params=["folder", "flaky"])
def url_(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    remote_faults.reset()
    monkeypatch.setattr(remotes, "PAUSE_S", 0.0)
    return str(folder / "team") if request.param == "folder" else "flaky://team/x"


def contents(folder: Path, url: str) -> list[bytes]:
    if url.startswith("flaky"):
        return [bytes(file.getbuffer()) for file in remote_faults.MemoryFileSystem.store.values()]
    return [path.read_bytes() for path in Path(url).rglob("*") if path.is_file()]


def test_rows_are_gone_and_the_others_are_pulled(folder: Path, url: str) -> None:
    names = fill(folder / "a" / "s", range(40), n_flushes=8)
    fill(folder / "a" / "phrases", range(8), n_flushes=2, schema=SCHEMA)
    push(folder / "a", url)
    unwanted = [names[0], names[1], names[39], key_of(1000)]
    found = remotes.purge(url, unwanted)
    assert (found.n_rows, found.n_shards, found.n_left) == (5, 3, 0)  # two of them lie among the phrases too
    packed = keys.pack_keys(unwanted)
    assert not any(key in data for data in contents(folder, url) for key in packed)
    assert remotes.purge(url, unwanted).n_rows == 0
    pull(folder / "b", url)
    with Store(folder / "b" / "s") as store:
        assert store.missing(names) == unwanted[:3]
        rest = [key for key in names if key not in unwanted]
        assert all(same(*pair) for pair in zip(store.get(rest), map(array_of, rest), strict=True))
    with Store(folder / "b" / "phrases", schema=SCHEMA) as store:
        assert store.get([key_of(5)]) == [rows_of(key_of(5))]
    assert pull(folder / "c", url, names[5:6]).n_shards == 1, "their keys are told as before"
    assert verify(folder).clean


def test_a_whole_shard_of_them_is_removed(folder: Path, url: str) -> None:
    names = fill(folder / "a" / "s", range(10), n_flushes=2)
    push(folder / "a", url)
    assert remotes.purge(url, names[:5]).n_shards == 1
    assert pull(folder / "b", url).n_shards == 1
    assert remotes.purge(url, names).n_rows == 5
    assert contents(folder, url) == []


def test_a_teams_folder_keeps_no_index_and_no_quarantine_of_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is worked in by the team, and so has no files of keys."""
    monkeypatch.setattr("cache.store.N_UNINDEXED", 2)
    names = fill(folder / "team" / "s", range(20), n_flushes=5)
    bad = shard_paths(folder / "team" / "s")[0]
    flip(bad, bad.stat().st_size // 2)
    verify(folder / "team")
    with Store(folder / "team" / "s") as store:
        store.put({key: array_of(key) for key in store.missing(names)})
    found = remotes.purge(folder / "team", names[:3])
    assert (found.n_rows, found.n_left) == (3, 0)
    packed = keys.pack_keys(names[:3])
    assert not any(key in data for data in contents(folder, str(folder / "team")) for key in packed)
    with Store(folder / "team" / "s") as store:
        assert store.missing(names) == names[:3]
        assert all(same(*pair) for pair in zip(store.get(names[3:]), map(array_of, names[3:]), strict=True))


def test_what_lies_damaged_at_a_remote_goes_as_a_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotes, "PAUSE_S", 0.0)
    names = fill(folder / "a" / "s", range(10), n_flushes=2)
    push(folder / "a", folder / "team")
    for bad in shard_paths(folder / "team" / "s"):
        flip(bad, bad.stat().st_size // 2)
    assert remotes.purge(folder / "team", names[:1]).n_left == 0
    (left,) = shard_paths(folder / "team" / "s")
    assert left in shard_paths_of(folder / "team" / "s", names[9])


def shard_paths_of(folder: Path, name: str) -> list[Path]:
    """The shards whose file of keys names this one."""
    packed = keys.pack_keys([name])[0]
    beside = [path for path in folder.rglob("*.keys") if packed in path.read_bytes()]
    return [path.parents[1] / "shards" / f"{path.stem}.h5" for path in beside]


@pytest.mark.parametrize("fault", ["put_half", "mv", "get_half"])
def test_a_fault_under_way_loses_nothing_and_the_same_call_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    remote_faults.reset()
    monkeypatch.setattr(remotes, "PAUSE_S", 0.0)
    url, names = "flaky://team/x", fill(folder / "a" / "s", range(20), n_flushes=4)
    push(folder / "a", url)
    remote_faults.N_FAILURES[fault] = 2
    assert remotes.purge(url, names[:1]).n_rows == 1, "a fault that passes"
    remote_faults.N_FAILURES[fault] = 1000
    with pytest.raises(StoreError, match=r"cannot (fetch|send|read) s/arrays/(shards|keys)/"):
        remotes.purge(url, names[:8])
    remote_faults.N_FAILURES.clear()
    pull(folder / "b", url)
    absent = Store(folder / "b" / "s").missing(names)
    assert absent in (names[:1], names[:5]), "a shard that held nothing else may have gone"
    assert remotes.purge(url, names[:8]).n_rows == 8 - len(absent)


def test_a_mistyped_address_is_an_error(folder: Path) -> None:
    with pytest.raises(StoreError, match=r"taem: this address has no store \(found nothing\); check the address"):
        remotes.purge(folder / "taem", [key_of(1)])


def test_keys_are_checked(folder: Path) -> Any:
    with pytest.raises(StoreError, match="a key is 64 lowercase hex digits"):
        remotes.purge(folder, ["x"])

"""Push and pull: only what is lacking travels, nothing half is seen, two at once lose nothing, damage is refused."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from cache import remotes
from cache.maintenance import verify
from cache.remotes import TransferReport, pull, push
from cache.store import Store
from schema.errors import StoreError
from tests.cache import remote_faults
from tests.cache.rows import SCHEMA, array_of, fill, flip, key_of, rows_of, same, shard_paths, stored_keys


@pytest.fixture(name="url", params=["folder", "file", "memory", "flaky"])
def url_(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    remote_faults.reset()
    monkeypatch.setattr(remotes, "PAUSE_S", 0.0)
    team = folder / "team"
    return {"folder": str(team), "file": f"file://{team}", "memory": "memory://team/x", "flaky": "flaky://team/x"}[
        request.param
    ]


@pytest.fixture(name="flaky")
def flaky_(monkeypatch: pytest.MonkeyPatch) -> str:
    remote_faults.reset()
    monkeypatch.setattr(remotes, "PAUSE_S", 0.0)
    return "flaky://team/x"


def assert_holds(folder: Path, names: list[str]) -> None:
    with Store(folder) as store:
        assert all(same(*pair) for pair in zip(store.get(names), map(array_of, names), strict=True))
    assert verify(folder.parent).clean


def test_what_is_pushed_is_pulled(folder: Path, url: str) -> None:
    names = fill(folder / "a" / "regions", range(30), n_flushes=3)
    fill(folder / "a" / "phrases", range(5), schema=SCHEMA)
    n_bytes = sum(path.stat().st_size for path in [*(folder / "a").rglob("shards/*")])
    assert push(folder / "a", url) == TransferReport(4, n_bytes, 0)
    assert push(folder / "a", url) == TransferReport(0, 0, 4)
    assert pull(folder / "b", url) == TransferReport(4, n_bytes, 0)
    assert pull(folder / "b", url) == TransferReport(0, 0, 4)
    assert_holds(folder / "b" / "regions", names)
    with Store(folder / "b" / "phrases", schema=SCHEMA) as store:
        assert store.get([key_of(3)]) == [rows_of(key_of(3))]


def test_only_the_lacking_travels_both_ways(folder: Path, url: str) -> None:
    mine = fill(folder / "a" / "s", range(10))
    push(folder / "a", url)
    theirs = fill(folder / "b" / "s", range(10, 20))
    assert push(folder / "b", url).n_shards == 1
    assert pull(folder / "a", url).n_shards == 1
    assert pull(folder / "b", url).n_shards == 1
    assert_holds(folder / "a" / "s", mine + theirs)
    assert_holds(folder / "b" / "s", mine + theirs)


def test_pull_by_keys_takes_what_they_need(folder: Path, url: str) -> None:
    names = fill(folder / "a" / "s", range(40), n_flushes=8)
    push(folder / "a", url)
    assert pull(folder / "b", url, [names[0], names[3], names[12], key_of(1000)]).n_shards == 2
    with Store(folder / "b" / "s") as store:
        assert store.missing(names) == names[5:10] + names[15:]
    assert pull(folder / "b", url, names[:5]).n_shards == 0
    assert pull(folder / "b", url, names[:7]).n_shards == 1
    assert pull(folder / "b", url, []).n_shards == 0


def test_without_key_files_everything_is_pulled(folder: Path) -> None:
    """A plain store's folder is a remote too."""
    names = fill(folder / "a" / "s", range(8), n_flushes=2)
    assert pull(folder / "b", folder / "a", names[:1]).n_shards == 2


def test_a_damaged_shard_is_never_sent(folder: Path, url: str) -> None:
    names = fill(folder / "a" / "s", range(20), n_flushes=2)
    bad = shard_paths(folder / "a" / "s")[0]
    flip(bad, bad.stat().st_size - 60)
    assert push(folder / "a", url).damaged == (bad.stem,)
    assert not bad.exists()
    assert pull(folder / "b", url).n_shards == 1
    assert len(Store(folder / "b" / "s").missing(names)) == 10


def test_a_shard_that_lies_damaged_at_the_remote_is_refused(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(folder / "a" / "s", range(20), n_flushes=2)
    push(folder / "a", folder / "team")
    bad = shard_paths(folder / "team" / "s")[0]
    flip(bad, bad.stat().st_size // 2)
    report = pull(folder / "b", folder / "team")
    assert (report.n_shards, report.damaged) == (1, (bad.stem,))
    assert "rejected (the shard's bytes do not match its name)" in caplog.text
    bad.write_bytes(bad.read_bytes()[:100])
    assert push(folder / "a", folder / "team").n_shards == 1
    assert verify(folder / "team").clean


@pytest.mark.parametrize("fault", ["put_half", "put_silently_half", "mv", "get_half", "get_flipped", "find"])
def test_a_fault_that_passes_is_tried_again(folder: Path, flaky: str, fault: str) -> None:
    names = fill(folder / "a" / "s", range(10), n_flushes=2)
    remote_faults.N_FAILURES[fault] = 2
    push(folder / "a", flaky)
    remote_faults.N_FAILURES[fault] = 2 if fault.startswith("get") or fault == "find" else 0
    pull(folder / "b", flaky)
    assert remote_faults.CALLS[fault] > 2
    assert_holds(folder / "b" / "s", names)


@pytest.mark.parametrize("fault", ["put_half", "put_silently_half", "mv"])
def test_a_broken_push_publishes_nothing_and_goes_on_later(folder: Path, flaky: str, fault: str) -> None:
    names = fill(folder / "a" / "s", range(12), n_flushes=3)
    remote_faults.N_FAILURES[fault] = 1000
    with pytest.raises(StoreError, match=r"cannot send s/arrays/shards/.*then run the same command again"):
        push(folder / "a", flaky)
    remote_faults.N_FAILURES.clear()
    with pytest.raises(StoreError, match=r"flaky://team/x: this address has no store \(found nothing\)"):
        pull(folder / "b", flaky)
    assert push(folder / "a", flaky).n_shards == 3
    assert pull(folder / "b", flaky).n_shards == 3
    assert_holds(folder / "b" / "s", names)


def test_a_broken_pull_publishes_nothing(folder: Path, flaky: str) -> None:
    fill(folder / "a" / "s", range(12), n_flushes=3)
    push(folder / "a", flaky)
    remote_faults.N_FAILURES["get_half"] = 1000
    with pytest.raises(StoreError, match=r"cannot fetch s/arrays/shards/.* arrived incomplete, \d+ of \d+ bytes"):
        pull(folder / "b", flaky)
    assert [path for path in (folder / "b").rglob("*") if path.is_file()] == []
    remote_faults.N_FAILURES.clear()
    remote_faults.N_FAILURES["get_flipped"] = 1000
    report = pull(folder / "b", flaky)
    assert (report.n_shards, len(report.damaged)) == (0, 3)
    assert [path for path in (folder / "b").rglob("*") if path.is_file()] == []
    remote_faults.N_FAILURES.clear()
    remote_faults.N_FAILURES["find"] = 1000
    with pytest.raises(StoreError, match="cannot list the remote: TimeoutError: timed out; check the address"):
        pull(folder / "b", flaky)


def push_many(folder: Path, worker: int) -> None:
    for at in range(5):
        fill(folder / f"{worker}" / "s", range(worker * 20 + at * 10, worker * 20 + at * 10 + 12))
        push(folder / f"{worker}", folder / "team")


def test_two_people_push_at_once(folder: Path) -> None:
    """Two at a folder, with overlapping rows and shards: nothing is lost, no temporary stays."""
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(push_many, [(folder, worker) for worker in (0, 1, 0, 1)])
    names = [key_of(at) for at in range(82)]
    pull(folder / "b", folder / "team")
    assert_holds(folder / "b" / "s", [name for name in names if name in set(stored_keys(folder / "team" / "s"))])
    assert Store(folder / "b" / "s").missing(names) == Store(folder / "0" / "s").missing(
        Store(folder / "1" / "s").missing(names)
    )
    assert list((folder / "team").rglob(".*")) == []


def test_a_teams_folder_stays_open_to_the_group(folder: Path) -> None:
    team = folder / "team"
    team.mkdir()
    team.chmod(0o2770)
    fill(folder / "a" / "s", range(4))
    before = os.umask(0o077)
    try:
        push(folder / "a", team)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in team.rglob("*") if path.is_dir()}
    assert modes == {0o2770}
    assert {stat.S_IMODE(path.stat().st_mode) for path in team.rglob("*") if path.is_file()} == {0o660}


@pytest.mark.parametrize("found", ["nothing", "a file", "other files"])
def test_a_mistyped_address_is_an_error(folder: Path, found: str) -> None:
    """Nothing is fetched and nothing is said to be there: 0 shards would pass for success."""
    team = folder / "taem"
    if found == "a file":
        team.write_text("hello")
    elif found == "other files":
        (team / "s" / "arrays" / "shards").mkdir(parents=True)
        (team / "s" / "arrays" / "shards" / "notes.h5").write_text("hello")
    told = "1 other file" if found == "other files" else "nothing"
    for wanted in (None, [key_of(1)]):
        with pytest.raises(StoreError, match=rf"taem: this address has no store \(found {told}.*check the address"):
            pull(folder / "b", team, wanted)
    assert not (folder / "b").exists()


def test_foreign_files_at_a_remote_are_left_there(folder: Path) -> None:
    fill(folder / "a" / "s", range(4))
    push(folder / "a", folder / "team")
    (folder / "team" / "README.md").write_text("hello")
    (folder / "team" / "s" / "arrays" / "shards" / "notes.h5").write_text("hello")
    assert pull(folder / "b", folder / "team").n_shards == 1
    assert len([path for path in (folder / "b").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense://x", r"nonsense:// is not supported here: .*; use a folder, s3://, gs:// or ssh://"),
        ("adl://x/y", r"adl:// is not supported here"),
    ],
)
def test_an_unknown_protocol_is_an_error(folder: Path, url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        push(folder, url)

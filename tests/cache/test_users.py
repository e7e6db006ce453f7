"""Users of one machine: two of a group share a store and a remote, a stranger reads or is told; all with umask 077."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache.maintenance import compact, drop, forget, stats, verify
from cache.remotes import pull, push
from cache.store import Store
from schema.errors import MissingKeys, StoreError
from tests.cache.rows import array_of, fill, flip, in_child, key_of, only_directory, same, shard_paths, wait

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as two users")


def as_user(uid: int, gid: int, work: Callable[[], object]) -> int:
    def run() -> None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        os.umask(0o077)  # a user who shares nothing by default
        work()

    return wait(in_child(run))


@needs_root
def test_two_users_of_a_group_share_a_store(folder: Path) -> None:
    folder.chmod(0o755)
    team = folder / "team"
    team.mkdir()
    os.chown(team, 0, 4242)
    team.chmod(0o2775)
    assert as_user(5001, 4242, lambda: fill(team / "regions", range(20), 17)) == 0
    assert as_user(5002, 4242, lambda: fill(team / "regions", range(20, 30))) == 0
    directory = only_directory(team)
    for path in [
        directory.shards,
        directory.index,
        directory.quarantine,
        *directory.shards.iterdir(),
        *directory.index.iterdir(),
    ]:
        mode = path.stat()
        assert mode.st_gid == 4242
        assert stat.S_IMODE(mode.st_mode) == (0o2775 if path.is_dir() else 0o664), path
    mine = next(path for path in directory.shards.iterdir() if path.stat().st_uid == 5001)
    flip(mine, mine.stat().st_size // 2)

    def quarantines() -> None:
        assert len(verify(team).problems) == 1
        names = [key_of(index) for index in range(30)]
        with Store(team / "regions") as store:
            store.put({key: array_of(key) for key in store.missing(names)})
            assert all(same(*pair) for pair in zip(store.get(names), map(array_of, names), strict=True))

    assert as_user(5002, 4242, quarantines) == 0
    assert as_user(5001, 4242, lambda: verify(team).clean or os._exit(3)) == 0

    def keeps_house() -> None:
        """What one made, the other may join, forget and drop."""
        assert compact(team).n_before > 1
        assert forget(team, [key_of(0)]).n_rows == 1
        assert len(drop(team, {"producer": "test"}).paths) == 1
        assert set(stats(team)[0].rows) == {"unnamed"}, "the rows that were computed again stay"

    assert as_user(5002, 4242, keeps_house) == 0


@needs_root
def test_two_users_of_a_group_push_to_one_folder_and_pull(folder: Path) -> None:
    folder.chmod(0o755)
    team = folder / "team"
    team.mkdir()
    os.chown(team, 0, 4242)
    team.chmod(0o2770)
    for uid, indexes in ((5001, range(20)), (5002, range(10, 30))):
        own = folder / str(uid)
        own.mkdir()
        os.chown(own, uid, 4242)

        def share(own: Path = own, indexes: range = indexes) -> None:
            fill(own / "regions", indexes)
            assert push(own, team).n_shards == 1

        assert as_user(uid, 4242, share) == 0

    def pulls() -> None:
        assert pull(folder / "5001", team).n_shards == 1
        names = [key_of(index) for index in range(30)]
        with Store(folder / "5001" / "regions") as store:
            assert all(same(*pair) for pair in zip(store.get(names), map(array_of, names), strict=True))

    assert as_user(5001, 4242, pulls) == 0

    def is_refused() -> None:
        with pytest.raises(StoreError, match=r"the remote folder cannot be read; fix its permissions"):
            pull(folder / "5003", team)
        with pytest.raises(StoreError, match=r"the store cannot be read; fix its permissions"):
            verify(team)

    assert as_user(5003, 4243, is_refused) == 0


@needs_root
def test_another_group_reads_only(folder: Path) -> None:
    folder.chmod(0o755)
    fill(folder / "store", range(5))
    names = [key_of(index) for index in range(5)]

    def reads() -> None:
        with Store(folder / "store") as store:
            assert all(same(*pair) for pair in zip(store.get(names), map(array_of, names), strict=True))
            with pytest.raises(StoreError, match="the store is read-only"):
                store.put({key_of(9): np.zeros(1, "f4")})
            (path,) = shard_paths(folder / "store")
            assert path.exists()

    assert as_user(5001, 4243, reads) == 0
    (path,) = shard_paths(folder / "store")
    flip(path, path.stat().st_size - 60)

    def misses() -> None:
        with Store(folder / "store") as store:
            with pytest.raises(MissingKeys):
                store.get(names)
            assert store.missing(names) == names

    assert as_user(5001, 4243, misses) == 0
    path.chmod(0o600)

    def cannot() -> None:
        with pytest.raises(StoreError, match="a shard cannot be read: permission denied; give the group read access"):
            Store(folder / "store").get(names)

    assert as_user(5001, 4243, cannot) == 0

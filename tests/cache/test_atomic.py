"""Publication by rename: whole or not at all, whatever happens to the writer."""

import errno
import json
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from cache import atomic


def test_a_file_appears_whole_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with atomic.file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert atomic.is_temporary(temporary)
        assert not atomic.is_temporary(path)
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")

    def broken() -> None:
        with atomic.file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        broken()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_disk_refuses_names_the_file_and_not_its_temporary(tmp_path: Path) -> None:
    """Arrow's errors bear no file name; those of Python the temporary's."""

    def arrows() -> None:
        with atomic.file(tmp_path / "a.parquet") as temporary:
            raise PermissionError(errno.EACCES, f"Failed to open local file '{temporary}'. Detail: [errno 13]")

    def pythons() -> None:
        with atomic.file(tmp_path / "a.parquet") as temporary:
            raise OSError(errno.ENOSPC, "No space left on device", str(temporary))

    def of_another_file() -> None:
        with atomic.file(tmp_path / "a.parquet"):
            (tmp_path / "source").read_bytes()

    with pytest.raises(PermissionError, match=rf"^\[Errno 13\] Permission denied: '{tmp_path}/a\.parquet'$"):
        arrows()
    with pytest.raises(OSError, match=rf"^\[Errno 28\] No space left on device: '{tmp_path}/a\.parquet'$"):
        pythons()
    with pytest.raises(FileNotFoundError, match="source"):
        of_another_file()


def test_a_read_only_disk_that_refuses_the_clean_up_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(OSError, match="Read-only") as caught, atomic.file(tmp_path / "a.txt") as temporary:
        raise OSError(errno.EROFS, "Read-only file system", str(temporary))
    assert caught.value.filename == str(tmp_path / "a.txt")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 240)  # its temporary's name is longer than disks take
    with pytest.raises(OSError, match="File name too long") as caught, atomic.folder(path):
        pytest.fail("nothing was made")
    assert caught.value.filename == str(path)


def test_everything_is_flushed_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that a power cut needs: bytes, then name, then folder."""
    events: list[str] = []
    fsync, rename = os.fsync, os.replace

    def recorded(handle: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(*arguments: Any) -> None:
        events.append("rename")
        rename(*arguments)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(os, "rename", renamed)
    atomic.write_bytes(tmp_path / "a", b"x")
    assert events == ["file", "rename", "folder"]
    events.clear()
    with atomic.folder(tmp_path / "f") as folder:
        (folder / "in").mkdir()
        (folder / "in" / "x").write_text("x")
    assert events == ["file", "folder", "folder", "rename", "folder"]


def test_a_folder_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "pack"
    for name in ("a", "b"):
        with atomic.folder(path) as folder:
            (folder / name).write_text(name)
    assert [one.name for one in path.iterdir()] == ["b"]

    def broken() -> None:
        with atomic.folder(path) as folder:
            (folder / "c").write_text("c")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        broken()
    assert [one.name for one in path.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_folder_both_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, rename, met = tmp_path / "pack", Path.rename, []

    def late(self: Path, other: Path) -> Path:
        if other == target and not met:  # another writer publishes between this one's two renames
            met.append(self)
            with atomic.folder(target) as new:
                (new / "theirs").write_text("x")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", late)
    with atomic.folder(target) as new:
        (new / "ours").write_text("x")
    assert met
    assert [path.name for path in target.iterdir()] == ["ours"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_no_folder_to_replace(tmp_path: Path) -> None:
    target = tmp_path / "pack"
    target.write_text("mine")
    with pytest.raises(NotADirectoryError), atomic.folder(target):
        pass
    assert target.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [target]


def test_json_is_one_text_for_one_value(tmp_path: Path) -> None:
    atomic.write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": "é"})
    text = (tmp_path / "a.json").read_text()
    assert text == '{\n "a": "é",\n "b": [\n  1,\n  2.5\n ]\n}\n'
    assert json.loads(text) == {"a": "é", "b": [1, 2.5]}


def test_mode_is_as_asked_or_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic.write_bytes(tmp_path / "a", b"")
        atomic.write_bytes(tmp_path / "b", b"", mode=0o664)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o640, 0o664]


def test_sweep_takes_the_dead_writers_alone(tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:
        with atomic.file(tmp_path / "a") as temporary, atomic.folder(tmp_path / "f") as folder:
            temporary.write_text("half")
            (folder / "x").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(list(tmp_path.iterdir())) == 2
    foreign = tmp_path / f".a.tmp-{'0' * 12}-1-{'0' * 12}"
    foreign.write_text("another machine's")
    (tmp_path / ".hidden").write_text("mine")
    with atomic.file(tmp_path / "a") as alive:  # a new writer of the same file takes what the dead one left
        assert len(list(tmp_path.glob(".a.tmp-*"))) == 1
        alive.write_text("half")
        assert len(atomic.sweep(tmp_path)) == 1
        assert sorted(tmp_path.iterdir()) == sorted([alive, foreign, tmp_path / ".hidden"])
    assert atomic.sweep(tmp_path / "absent") == []

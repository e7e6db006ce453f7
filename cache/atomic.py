"""Atomic publication: a reader sees the old file or the new one, never half of one; and a file lock.

A file is written under a unique temporary name beside its destination, flushed, and renamed, and its folder is flushed.
A killed writer leaves its temporary file; `sweep` removes those whose writer is known to be dead.
"""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from schema.errors import RunError

_TEMPORARY = re.compile(r"\..*\.tmp-(?P<machine>[0-9a-f]{12})-(?P<pid>\d+)-[0-9a-f]{12}")
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)
_NO_FOLDER_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # network disks that flush on rename themselves
_LOCKED = (errno.EAGAIN, errno.EACCES)


@contextlib.contextmanager
def file(path: str | Path, *, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary path, published as `path` (permission bits: `mode`) if the block succeeds, else removed."""
    path = Path(path)
    with _temporary(path) as temporary:
        yield temporary
        _flush(temporary, mode)
        temporary.replace(path)
        _flush(path.parent)


@contextlib.contextmanager
def folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it replaces the folder `path` if the block succeeds, else it is removed."""
    path = Path(path)
    with _temporary(path) as temporary:
        temporary.mkdir(parents=True)
        yield temporary
        for inner in [*sorted(temporary.rglob("*"), reverse=True), temporary]:
            _flush(inner)
        while temporary.is_dir():  # if two writers publish at once, the last one wins
            with _temporary(path) as old:
                with contextlib.suppress(FileNotFoundError):  # another writer has just moved it
                    if path.is_dir():
                        path.rename(old)
                try:
                    temporary.rename(path)
                except OSError as error:
                    if error.errno not in _OCCUPIED:
                        raise
        _flush(path.parent)


def write_bytes(path: str | Path, data: bytes | bytearray | memoryview, *, mode: int | None = None) -> None:
    with file(path, mode=mode) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Publish `text` as UTF-8; newlines stay as they are."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Publish JSON with sorted names, an indent of one space and a final newline: equal values are equal bytes."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n")


def is_temporary(path: Path) -> bool:
    """Whether this is the name of a file or folder that is not yet published."""
    return _TEMPORARY.fullmatch(path.name) is not None


def sweep(where: Path, pattern: str = ".*.tmp-*") -> list[Path]:
    """Remove and return the temporary files in folder `where` whose writer ran on this machine and is dead."""
    removed = []
    for path in where.glob(pattern):
        match = _TEMPORARY.fullmatch(path.name)
        if match and match["machine"] == _machine() and not _is_alive(int(match["pid"])):
            with contextlib.suppress(OSError):  # another process sweeps too, or it is another user's file
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
    return removed


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield an unused name beside `path`; errors about it name `path`, and what is left of it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, f".{glob.escape(path.name)}.tmp-*")  # left by killed writers of the same file
    temporary = path.with_name(f".{path.name}.tmp-{_machine()}-{os.getpid()}-{secrets.token_hex(6)}")
    try:
        yield temporary
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary), temporary):  # Arrow's errors name no file
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # a read-only disk refuses this too, and was reported already
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink(missing_ok=True)


def _flush(path: Path, mode: int | None = None) -> None:
    """fsync a file, or a folder so that a rename in it survives a power cut; some disks cannot flush folders."""
    handle = os.open(path, os.O_RDONLY)
    try:
        if mode is not None:
            os.fchmod(handle, mode)
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FSYNC or not path.is_dir():
            raise
    finally:
        os.close(handle)


@cache
def _machine() -> str:
    """Identifies the process table that a pid belongs to: host, boot, and pid namespace (a container has its own)."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM  # another user's process
    return True


@contextlib.contextmanager
def file_lock(folder: Path, what: str) -> Iterator[None]:
    """Lock `folder` for the block, if its disk has locks; RunError "another process `what`" if it is locked."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+b", buffering=0) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _LOCKED:
                owner = os.pread(lock.fileno(), 200, 0).decode("utf-8", "replace") or "no process id in the lock file"
                todo = "wait for it to finish, or stop it: the next call resumes from what it saved"
                raise RunError(f"another process {what}", where=str(folder), found=owner, todo=todo) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}".encode())
        yield

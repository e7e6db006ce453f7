"""Publication by rename: a reader sees an old file, a new file, never half of one.

A file is written under a unique temporary name beside its place, flushed to the disk, renamed, and its folder is
flushed. A killed writer leaves a temporary; `sweep` removes those whose writer is known to be dead.

One process at a time, where a second would only do the same work beside the first; no result depends on it.
"""

from __future__ import annotations

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
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from schema.errors import RunError

_TEMPORARY = re.compile(r"\..*\.tmp-(?P<machine>[0-9a-f]{12})-(?P<pid>\d+)-[0-9a-f]{12}")
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
_NO_FOLDER_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # network disks that flush on rename by themselves


@contextlib.contextmanager
def file(path: str | Path, *, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to; published as `path` when the block ends well, removed otherwise.

    `mode` sets permission bits, else the process's umask decides. OSError (disk full, read-only) passes to the caller
    and names `path`.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        yield temporary
        _flush_file(temporary, mode)
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        if _is_of(error, temporary):
            raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # a read-only disk refuses this too, and has been told of
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; when the block ends well it takes the place of `path`, else it is removed.

    An old folder at `path` stays readable until the block ends. OSError passes to the caller and names `path`.
    """
    path = Path(path)
    temporary, replaced = _temporary(path), []
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for inner in sorted(temporary.rglob("*"), reverse=True):
            flush_folder(inner) if inner.is_dir() else _flush_file(inner, None)
        flush_folder(temporary)
        while temporary.is_dir():
            replaced.append(_temporary(path))
            with contextlib.suppress(FileNotFoundError):  # another writer took it away just now
                if path.is_dir():
                    path.rename(replaced[-1])
            try:
                temporary.rename(path)
            except OSError as error:
                if error.errno not in _TAKEN:  # else another writer published meanwhile: the last one stays
                    raise
        flush_folder(path.parent)
    except OSError as error:
        if _is_of(error, temporary):
            raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error
        raise
    finally:
        for rest in (temporary, *replaced):
            shutil.rmtree(rest, ignore_errors=True)


def write_bytes(path: str | Path, data: bytes | bytearray | memoryview, *, mode: int | None = None) -> None:
    """Publish `data` as the file `path`."""
    with file(path, mode=mode) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Publish `text` as UTF-8 with the newlines it has."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Publish JSON: sorted names, one space of indent, a final newline, so equal values are equal bytes."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n")


def flush_folder(path: Path) -> None:
    """fsync a folder, so that a rename in it survives a power cut; silent on disks that cannot."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FSYNC:
            raise
    finally:
        os.close(handle)


def is_temporary(path: Path) -> bool:
    """Whether a name is one of ours, still unpublished."""
    return _TEMPORARY.fullmatch(path.name) is not None


def sweep(where: Path) -> list[Path]:
    """Remove the temporaries in folder `where` whose writer ran on this machine and is dead; return them."""
    return _sweep(where.iterdir() if where.is_dir() else ())


def _sweep(paths: Iterable[Path]) -> list[Path]:
    removed = []
    for path in paths:
        found = _TEMPORARY.fullmatch(path.name)
        if found and found["machine"] == _machine() and not _alive(int(found["pid"])):
            with contextlib.suppress(OSError):  # another process sweeps too, or it is another user's file
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
    return removed


def _is_of(error: OSError, temporary: Path) -> bool:
    """Whether an error is of the temporary; Arrow's name no file, and say it in words of their own."""
    return bool(error.errno) and error.filename in (None, str(temporary), temporary)


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent.glob(f".{glob.escape(path.name)}.tmp-*"))  # what a killed writer of the same left
    return path.with_name(f".{path.name}.tmp-{_machine()}-{os.getpid()}-{secrets.token_hex(6)}")


def _flush_file(path: Path, mode: int | None) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        if mode is not None:
            os.fchmod(handle, mode)
        os.fsync(handle)
    finally:
        os.close(handle)


@cache
def _machine() -> str:
    """Names the process table that a pid belongs to: host, boot, and pid namespace (a container has its own)."""
    parts = [platform.node()]
    for source in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            path = Path(source)
            parts.append(str(path.readlink()) if path.is_symlink() else path.read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


LOCK = "lock"
_HELD = (errno.EAGAIN, errno.EACCES)


@contextlib.contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder` (made where it is not there) for the block; the system lets go of it when the process ends.

    Raises RunError, which says that another process does `what` and which one, where `folder` is held already. On disks
    without locks nobody is held off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                found = os.read(handle, 200).decode("utf-8", "replace") or "no name"
                todo = "let it finish, or stop it: the next call goes on from what it saved"
                raise RunError(f"another process {what}", where=str(folder), found=found, todo=todo) from None
        os.truncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        os.close(handle)

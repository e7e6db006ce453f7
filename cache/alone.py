"""One process at a time, where a second would only do the same work beside the first; no result depends on it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from schema.errors import RunError

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

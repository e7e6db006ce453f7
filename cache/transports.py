"""Files of a remote: a folder, or a URL through fsspec. An upload appears there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cache import atomic
from cache.shard_directory import disk_error, file_mode, make_folder
from schema.errors import StoreError

OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"}  # an upload appears whole or not at all
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "ssh": "ssh", "sftp": "ssh"}
TODO = "check address, rights and network, then run the same command again"
_ADDRESS = re.compile(r"(?!.*://).+|[a-zA-Z][\w+.-]*://.+")  # a folder, or a URL that has more than a protocol
_LOCAL_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG)  # of this machine's disk: no use in retrying
_BACKEND_ERRORS = (  # what fsspec's backends raise beside OSError, if they are loaded
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("asyncssh", "Error"),
    ("fsspec.exceptions", "FSTimeoutError"),
)


class Unreachable(StoreError):
    """A remote did not do what was asked; trying again may help."""


class Transport:
    """Files of a remote by their path below its root. StoreError, often Unreachable, for what the remote refuses.

    `atomic_uploads`: an unfinished upload is never visible; else an upload is renamed when it is complete.
    """

    def __init__(self, system: Any, root: str, *, atomic_uploads: bool) -> None:
        self._system, self._root, self._atomic_uploads = system, root.rstrip("/"), atomic_uploads

    def files(self) -> dict[str, int]:
        """Every file with its size in bytes."""
        with _remote_errors():
            self._system.invalidate_cache()
            try:
                files = self._system.find(self._root, detail=True)
            except FileNotFoundError:  # nothing was ever sent there
                return {}
        sizes = {name.removeprefix(self._root).lstrip("/"): int(info["size"]) for name, info in files.items()}
        return {name: size for name, size in sizes.items() if name}  # without a file that is called like the root

    def read(self, path: str) -> bytes:
        """The bytes of a file; FileNotFoundError when it is gone."""
        with _remote_errors():
            return self._system.cat_file(self._place(path))

    def write(self, data: bytes, path: str) -> None:
        """Write or replace a file."""
        place = self._place(path)
        upload = place if self._atomic_uploads else f"{place}.tmp-{secrets.token_hex(6)}"
        try:
            with _remote_errors():
                if upload != place:
                    self._system.makedirs(place.rpartition("/")[0], exist_ok=True)
                self._upload(data, upload)
                if upload != place:
                    if self._system.exists(place):  # some cannot rename over a file
                        self._system.rm_file(place)
                    self._system.mv(upload, place)
        except StoreError:
            if upload != place:
                with contextlib.suppress(*_failures()):
                    self._system.rm_file(upload)
            raise

    def remove(self, path: str) -> None:
        """Remove a file; FileNotFoundError when it is gone, which some remotes do not say."""
        with _remote_errors():
            self._system.rm_file(self._place(path))

    def _upload(self, data: bytes, place: str) -> None:
        self._system.pipe_file(place, data)
        self._system.invalidate_cache()
        size = int(self._system.info(place)["size"])
        if size != len(data):
            raise Unreachable(f"an upload is incomplete, {size} of {len(data)} bytes", todo=TODO)

    def _place(self, path: str) -> str:
        return f"{self._root}/{path}"


class FolderTransport(Transport):
    """A folder: files are published by rename, with the group's rights under a team's folder."""

    def __init__(self, root: Path) -> None:
        super().__init__(LocalFileSystem(), str(root.absolute()), atomic_uploads=True)

    def files(self) -> dict[str, int]:
        if Path(self._root).is_dir() and not os.access(self._root, os.R_OK | os.X_OK):  # it would look empty
            raise StoreError("the remote folder cannot be read", where=self._root, todo="fix its rights")
        return super().files()

    def write(self, data: bytes, path: str) -> None:
        place = Path(self._place(path))
        try:
            make_folder(place.parent)
            atomic.write_bytes(place, data, mode=file_mode(place.parent))
        except OSError as error:
            raise disk_error("the remote folder cannot be written", place.parent, error) from None


def transport_of(url: str | Path) -> Transport:
    """The transport for a folder or a URL; StoreError for a protocol that is unknown or not installed."""
    text = str(url)
    if not _ADDRESS.fullmatch(text):
        todo = "give a folder, or a URL with a path in it, such as s3://bucket/store"
        raise StoreError("not the address of a store", found=repr(text), todo=todo)
    protocol = text.partition("://")[0] if "://" in text else "file"
    if protocol == "file":
        return FolderTransport(Path(text.removeprefix("file://")))
    try:
        with _remote_errors(text):  # some file systems connect when they are made
            system, root = fsspec.core.url_to_fs(text, skip_instance_cache=True, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        extra = EXTRAS.get(protocol)
        todo = f"pip install 'fmit[{extra}]'" if extra else "use a folder, s3://, gs:// or ssh://"
        raise StoreError(f"{protocol}:// is not supported here: {error}", where=text, todo=todo) from None
    return Transport(system, root, atomic_uploads=protocol in OBJECT_STORES)


@contextlib.contextmanager
def _remote_errors(where: str = "") -> Iterator[None]:
    """Turn what the network or the service raises into Unreachable, or StoreError where retrying is of no use."""
    try:
        yield
    except FileNotFoundError:
        raise
    except NotImplementedError:
        todo = "this kind of address can only be pulled from: use a folder, s3://, gs:// or ssh://"
        raise StoreError("files cannot be sent to or removed from this address", todo=todo) from None
    except _failures() as error:
        what = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
            todo = "free space or fix the folder's rights, then run the same command again"
            raise StoreError(what, todo=todo) from None
        raise Unreachable(what, where=where, todo=TODO) from None


def _failures() -> tuple[type[Exception], ...]:
    loaded = (getattr(sys.modules.get(module), name, None) for module, name in _BACKEND_ERRORS)
    return (OSError, EOFError, *(error for error in loaded if isinstance(error, type)))

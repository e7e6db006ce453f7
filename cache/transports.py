"""How files get to and from a remote: a folder, or a URL through fsspec. What is half sent is never seen there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import fsspec

from cache import atomic
from cache.shard_directory import file_mode, make_folder, refused
from schema.errors import StoreError

OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"}  # an upload appears whole or not at all
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "ssh": "ssh", "sftp": "ssh"}
AGAIN = "check address, rights and network, then run the same command again"
_ADDRESS = re.compile(r"(?!.*://).+|[a-zA-Z][\w+.-]*://.+")  # a folder, or a URL that names more than a protocol
_OURS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG)  # this side's disk: no use in trying again
_FOREIGN = (  # what fsspec's backends raise beside OSError, where they are loaded
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("asyncssh", "Error"),
    ("fsspec.exceptions", "FSTimeoutError"),
)

Result = TypeVar("Result")


class Unreachable(StoreError):
    """A remote did not do what was asked; trying again may help."""


class Transport(Protocol):
    """Files of a remote by their path below its root. FileNotFoundError from `read` and `fetch`: it has gone."""

    def files(self) -> dict[str, int]:
        """Every file with its size in bytes."""

    def send(self, path: Path, target: str) -> None:
        """Copy a local file to `target`, which appears whole."""

    def write(self, data: bytes, target: str) -> None:
        """Make `target` hold these bytes; it appears whole."""

    def fetch(self, target: str, path: Path) -> None:
        """Copy `target` into a local file."""

    def read(self, target: str) -> bytes:
        """The bytes of `target`."""

    def remove(self, target: str) -> None:
        """Remove `target`."""


def transport_of(url: str | Path) -> Transport:
    """The transport for a folder or a URL; StoreError for a protocol that is unknown or not installed."""
    text = str(url)
    if not _ADDRESS.fullmatch(text):
        todo = "give a folder, or a URL with a place in it, such as s3://bucket/store"
        raise StoreError("no address of a store", found=repr(text), todo=todo)
    protocol = text.partition("://")[0] if "://" in text else "file"
    if protocol == "file":
        return FolderTransport(Path(text.removeprefix("file://")))
    try:
        # some connect when they are made
        system, root = _reached(
            lambda: fsspec.core.url_to_fs(text, skip_instance_cache=True, use_listings_cache=False), text
        )
    except (ImportError, ValueError) as error:
        extra = EXTRAS.get(protocol)
        todo = f"pip install 'fmit[{extra}]'" if extra else "use a folder, s3://, gs:// or ssh://"
        raise StoreError(f"no way to {protocol}:// here: {error}", where=text, todo=todo) from None
    return UrlTransport(system, root, whole=protocol in OBJECT_STORES)


class FolderTransport:
    """A folder: files are published by rename, open to the group where the folder is a team's."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self) -> dict[str, int]:
        found = {}
        if self._root.is_dir() and not os.access(
            self._root, os.R_OK | os.X_OK
        ):  # no entry would look like an empty one
            raise StoreError("the remote folder cannot be read", where=str(self._root), todo="mend its rights")
        for path in sorted(self._root.rglob("*")):
            if path.is_file() and not atomic.is_temporary(path):
                found[path.relative_to(self._root).as_posix()] = path.stat().st_size
        return found

    def send(self, path: Path, target: str) -> None:
        place = self._root / target
        with path.open("rb") as source:  # FileNotFoundError here means that ours has gone
            try:
                make_folder(place.parent)
                with atomic.file(place, mode=file_mode(place.parent)) as temporary, temporary.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
            except OSError as error:
                raise refused("the remote folder cannot be written", place.parent, error) from None

    def write(self, data: bytes, target: str) -> None:
        place = self._root / target
        try:
            make_folder(place.parent)
            atomic.write_bytes(place, data, mode=file_mode(place.parent))
        except OSError as error:
            raise refused("the remote folder cannot be written", place.parent, error) from None

    def fetch(self, target: str, path: Path) -> None:
        shutil.copyfile(self._root / target, path)

    def read(self, target: str) -> bytes:
        return (self._root / target).read_bytes()

    def remove(self, target: str) -> None:
        (self._root / target).unlink(missing_ok=True)


class UrlTransport:
    """Anything that fsspec speaks. `whole`: an upload appears at once; else it is renamed when it is complete."""

    def __init__(self, system: Any, root: str, whole: bool) -> None:
        self._system, self._root, self._whole = system, root.rstrip("/"), whole

    def files(self) -> dict[str, int]:
        def find() -> dict[str, Any]:
            self._system.invalidate_cache()
            try:
                return self._system.find(self._root, detail=True)
            except FileNotFoundError:  # nothing was ever sent there
                return {}

        found = _reached(find)
        return {name.removeprefix(self._root).lstrip("/"): int(info["size"]) for name, info in found.items()}

    def send(self, path: Path, target: str) -> None:
        size = path.stat().st_size
        self._upload(target, size, lambda place: self._system.put_file(str(path), place))

    def write(self, data: bytes, target: str) -> None:
        self._upload(target, len(data), lambda place: self._system.pipe_file(place, data))

    def fetch(self, target: str, path: Path) -> None:
        _reached(lambda: self._system.get_file(self._place(target), str(path)))

    def read(self, target: str) -> bytes:
        return _reached(lambda: self._system.cat_file(self._place(target)))

    def remove(self, target: str) -> None:
        _reached(lambda: self._system.rm_file(self._place(target)))

    def _upload(self, target: str, size: int, upload: Callable[[str], object]) -> None:
        place = self._place(target)
        first = place if self._whole else f"{place}.tmp-{secrets.token_hex(6)}"

        def work() -> None:
            if not self._whole:
                self._system.makedirs(place.rpartition("/")[0], exist_ok=True)
            upload(first)
            self._system.invalidate_cache()
            found = int(self._system.info(first)["size"])
            if found != size:
                raise Unreachable(f"an upload arrived in part, {found} of {size} bytes", todo=AGAIN)
            if not self._whole:
                if self._system.exists(place):  # some cannot rename over a file
                    self._system.rm_file(place)
                self._system.mv(first, place)

        try:
            _reached(work)
        except StoreError:
            if not self._whole:
                with contextlib.suppress(*_failures()):  # what was sent in part is of no use to anyone
                    self._system.rm_file(first)
            raise

    def _place(self, target: str) -> str:
        return f"{self._root}/{target}"


def _reached(work: Callable[[], Result], where: str = "") -> Result:
    """Do the work; Unreachable for whatever the network or the service says no with."""
    try:
        return work()
    except FileNotFoundError:
        raise
    except NotImplementedError:
        todo = "this kind of address can only be pulled from: use a folder, s3://, gs:// or ssh://"
        raise StoreError("nothing can be sent or removed there", todo=todo) from None
    except _failures() as error:
        what = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.errno in _OURS:
            raise StoreError(
                what, todo="free space or mend the folder's rights, then run the same command again"
            ) from None
        raise Unreachable(what, where=where, todo=AGAIN) from None


def _failures() -> tuple[type[Exception], ...]:
    loaded = (getattr(sys.modules.get(module), name, None) for module, name in _FOREIGN)
    return (OSError, EOFError, *(one for one in loaded if isinstance(one, type)))

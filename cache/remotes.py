"""Sharing a store: push and pull shards to and from a folder or any fsspec URL (s3://, gs://, ssh://, ...).

A remote has a store's own layout and, beside the shards, a small file with each shard's keys, by which `pull` selects.
Names are digests: two who push at once write the same, and what arrives is checked.
"""

import contextlib
import errno
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from cache import keys, maintenance
from cache.maintenance import ForgetReport
from cache.shard_directory import ShardDirectory, shard_directories, write_file
from cache.shards import Damaged, Newer, open_shard
from cache.store import Catalog
from schema.errors import StoreError

log = logging.getLogger(__name__)

N_TRIES = 3
PAUSE_S = 0.5  # before the second try; doubled before each further one
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"}  # an upload appears whole or not at all
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "ssh": "ssh", "sftp": "ssh"}
TODO = "check the address, permissions and network, then run the same command again"
_ADDRESS = re.compile(r"(?!.*://).+|[a-zA-Z][\w+.-]*://.+")  # a folder, or a URL that has more than a protocol
_DIRECTORY = r"(?:(?!\.\./)[\w.-]+/)*(?:arrays|rows-[0-9a-f]{12})"
_SHARD = re.compile(rf"({_DIRECTORY})/shards/([0-9a-f]{{64}})(\.h5|\.parquet)")
_UNNAMED = re.compile(rf"{_DIRECTORY}/(?:index|quarantine)/[^/]+")  # may hold any row of a store that is a remote too
_LOCAL_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG)  # of this machine's disk: no use in retrying
_BACKENDS = {"botocore", "aiohttp", "gcsfs", "asyncssh", "fsspec"}  # packages whose errors are the remote's


class Unreachable(StoreError):
    """A remote operation failed; trying again may help."""


@dataclass(frozen=True)
class TransferReport:
    n_shards: int  # transferred
    n_bytes: int
    n_present: int  # shards that were there already
    damaged: tuple[str, ...] = ()  # names of shards


class RemoteShard(NamedTuple):
    directory: str  # below the root
    name: str
    suffix: str

    @property
    def path(self) -> str:
        return f"{self.directory}/shards/{self.name}{self.suffix}"

    @property
    def keys_path(self) -> str:
        return f"{self.directory}/keys/{self.name}.keys"


class Remote:
    """A remote and the `files` (path to bytes) that it listed when this was made. Methods raise StoreError."""

    def __init__(self, url: str | Path, *, may_be_empty: bool = False) -> None:
        """StoreError without a shard, unless it `may_be_empty`: a mistyped address looks like an empty remote."""
        self._system, self._root, self._atomic_uploads = connect(str(url))
        self.files: dict[str, int] = _retry("list the remote", self.list_files)
        if not may_be_empty and not self.shards():
            found = f"{len(self.files)} other file(s)" if self.files else "nothing"
            todo = "check the address; `fmit cache push` fills a remote"
            raise StoreError("this address has no store", where=str(url), found=found, todo=todo)

    def list_files(self) -> dict[str, int]:
        root, is_local = self._root, isinstance(self._system, LocalFileSystem)
        if is_local and Path(root).is_dir() and not os.access(root, os.R_OK | os.X_OK):  # it would look empty
            raise StoreError("the remote folder cannot be read", where=root, todo="fix its permissions")
        files = {}
        with _remote_errors(), contextlib.suppress(FileNotFoundError):  # nothing was ever sent there
            self._system.invalidate_cache()
            files = self._system.find(root, detail=True)
        sizes = {name.removeprefix(root).lstrip("/"): int(info["size"]) for name, info in files.items()}
        return {name: size for name, size in sizes.items() if name}  # without a file that has the root's name

    def read(self, path: str) -> bytes:
        with _remote_errors():
            return self._system.cat_file(f"{self._root}/{path}")

    def write(self, data: bytes, path: str) -> None:
        """Write or replace a file atomically."""
        if isinstance(self._system, LocalFileSystem):
            write_file(Path(self._root, path), data, "the remote folder cannot be written")
            return
        system, target = self._system, f"{self._root}/{path}"
        upload = target if self._atomic_uploads else f"{target}.tmp-{secrets.token_hex(6)}"
        try:
            with _remote_errors():
                if upload != target:
                    system.makedirs(target.rpartition("/")[0], exist_ok=True)
                system.pipe_file(upload, data)
                system.invalidate_cache()
                size = int(system.info(upload)["size"])
                if size != len(data):
                    raise Unreachable(f"an upload is incomplete, {size} of {len(data)} bytes", todo=TODO)
                if upload != target:
                    if system.exists(target):  # some cannot rename over a file
                        system.rm_file(target)
                    system.mv(upload, target)
        except StoreError:
            if upload != target:
                with contextlib.suppress(Exception):  # the first error says more
                    system.rm_file(upload)
            raise

    def remove(self, path: str) -> None:
        with _remote_errors():
            self._system.rm_file(f"{self._root}/{path}")

    def shards(self) -> list[RemoteShard]:
        """The shards, sorted by path. Other files, and paths outside the store, are ignored."""
        matches = map(_SHARD.fullmatch, sorted(self.files))
        return [RemoteShard(*match.groups()) for match in matches if match]

    def send(self, directory: ShardDirectory, shard: RemoteShard) -> int:
        """Send a shard and the file of its keys if they are absent; returns the shard's bytes if it was sent."""
        path = directory.path(shard.name)
        size = path.stat().st_size
        is_absent = self.files.get(shard.path) != size
        if is_absent:
            data = path.read_bytes()
            _check_digest(data, shard)
            _retry(f"send {shard.path}", self.write, data, shard.path)
        if shard.keys_path not in self.files:
            with contextlib.suppress(Newer), contextlib.closing(open_shard(path)) as reader:
                data = reader.keys().tobytes()
                _retry(f"send {shard.keys_path}", self.write, data, shard.keys_path)
        return size if is_absent else 0

    def fetch(self, shard: RemoteShard) -> bytes:
        return _retry(f"fetch {shard.path}", self._read_whole, shard.path, shard)

    def keys(self, shard: RemoteShard) -> np.ndarray | None:
        """The keys of a shard, [N] of 32-byte strings; None if the remote has no file of them."""
        with contextlib.suppress(FileNotFoundError):
            if shard.keys_path in self.files:
                data = _retry(f"read {shard.keys_path}", self._read_whole, shard.keys_path)
                return None if len(data) % keys.KEY_BYTES else np.frombuffer(data, keys.PACKED)
        return None

    def _read_whole(self, path: str, shard: RemoteShard | None = None) -> bytes:
        data = self.read(path)
        if len(data) != self.files[path]:
            raise Unreachable(f"{path} arrived incomplete, {len(data)} of {self.files[path]} bytes", todo=TODO)
        if shard:
            _check_digest(data, shard)
        return data


def connect(url: str) -> tuple[Any, str, bool]:
    """The file system of a folder or URL, the root in it, and whether uploads appear whole. Raises StoreError."""
    if not _ADDRESS.fullmatch(url):
        todo = "give a folder, or a URL with a path in it, such as s3://bucket/store"
        raise StoreError("not the address of a store", found=repr(url), todo=todo)
    protocol = url.partition("://")[0] if "://" in url else "file"
    if protocol == "file":
        return LocalFileSystem(), str(Path(url.removeprefix("file://")).absolute()), True
    try:
        with _remote_errors(url):  # some file systems connect when they are made
            system, root = fsspec.core.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        extra = EXTRAS.get(protocol)
        todo = f"pip install 'fmit[{extra}]'" if extra else "use a folder, s3://, gs:// or ssh://"
        raise StoreError(f"{protocol}:// is not supported here: {error}", where=url, todo=todo) from None
    return system, root.rstrip("/"), protocol in OBJECT_STORES


@contextlib.contextmanager
def _remote_errors(where: str = "") -> Iterator[None]:
    """Turn errors of the network or the service into Unreachable, or into StoreError where a retry would not help."""
    try:
        yield
    except (FileNotFoundError, StoreError):
        raise
    except NotImplementedError:
        todo = "this kind of address can only be pulled from: use a folder, s3://, gs:// or ssh://"
        raise StoreError("files cannot be sent to or removed from this address", todo=todo) from None
    except Exception as error:  # the services' libraries share no base class; every other error is raised again
        packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
        if not isinstance(error, OSError | EOFError) and not packages & _BACKENDS:
            raise
        what = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
            todo = "free space or fix the folder's permissions, then run the same command again"
            raise StoreError(what, todo=todo) from None
        raise Unreachable(what, where=where, todo=TODO) from None


def push(folder: str | Path, url: str | Path) -> TransferReport:
    """Send the shards that the remote lacks; damaged ones go to quarantine here. After an error, call it again."""
    remote = Remote(url, may_be_empty=True)
    sent, damaged = [], []
    for directory in shard_directories(Path(folder)):
        base = directory.folder.relative_to(folder).as_posix()
        for name in sorted(directory.names()):
            try:
                sent.append(remote.send(directory, RemoteShard(base, name, directory.suffix)))
            except FileNotFoundError:  # compacted meanwhile: its rows are in another shard
                continue
            except Damaged as error:
                directory.set_aside(name, error)
                damaged.append(name)
    return TransferReport(len(sent) - sent.count(0), sum(sent), sent.count(0), tuple(damaged))


def pull(folder: str | Path, url: str | Path, needed: Collection[str] | None = None) -> TransferReport:
    """Fetch the shards that are absent here; with `needed`, only shards that hold some of these keys not yet here."""
    remote = Remote(url)
    absent = np.unique(keys.pack_keys(needed or ()))
    for directory in shard_directories(Path(folder)) if needed else ():
        absent = absent[~Catalog(directory).index.find(absent)[0]]
    fetched, damaged, n_present = [], [], 0
    for shard in remote.shards():
        directory = ShardDirectory(Path(folder, shard.directory), shard.suffix)
        if directory.path(shard.name).exists():
            n_present += 1
            continue
        if needed is not None and (present := remote.keys(shard)) is not None:
            useful = np.isin(absent, present)
            if not useful.any():
                continue
            absent = absent[~useful]
        try:
            directory.publish(remote.fetch(shard))
            fetched.append(remote.files[shard.path])
        except Damaged as error:
            log.warning("%s: rejected (%s)", shard.path, error.what)
            damaged.append(shard.name)
        except FileNotFoundError:  # someone removed it from the remote
            continue
    return TransferReport(len(fetched), sum(fetched), n_present, tuple(damaged))


def purge(url: str | Path, unwanted: Collection[str]) -> ForgetReport:
    """Remove rows by key, and damaged shards, from a remote, while no one else pushes; after an error, call again."""
    packed, remote = np.unique(keys.pack_keys(unwanted)), Remote(url)
    removed = []
    for shard in remote.shards():
        present = remote.keys(shard)
        if present is None or np.isin(present, packed).any():
            removed.append(_rewrite(remote, shard, unwanted))
    for path in filter(_UNNAMED.fullmatch, remote.files):
        _remove(remote, path)
    after = Remote(url, may_be_empty=True)
    files = [after.keys(shard) for shard in after.shards()]  # None: the shard was read a moment ago
    n_left = sum(int(np.isin(file, packed).sum()) for file in files if file is not None)
    return ForgetReport(sum(removed), len(removed) - removed.count(0), n_left)


def _rewrite(remote: Remote, shard: RemoteShard, unwanted: Collection[str]) -> int:
    """Replace a shard by one without these rows; returns how many of them it held."""
    n_rows = 0
    with tempfile.TemporaryDirectory(prefix="fmit-") as folder:
        directory = ShardDirectory(Path(folder, shard.directory), shard.suffix)
        with contextlib.suppress(Damaged):  # what a damaged one holds is unknown: it is removed
            directory.publish(remote.fetch(shard))
            n_rows = maintenance.forget(folder, unwanted).n_rows
        names = directory.names()
        for name in names:
            remote.send(directory, RemoteShard(shard.directory, name, shard.suffix))
    if shard.name not in names:
        _remove(remote, shard.keys_path)
        _remove(remote, shard.path)
    return n_rows


def _remove(remote: Remote, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        _retry(f"remove {path}", remote.remove, path)


def _check_digest(data: bytes, shard: RemoteShard) -> None:
    digest = keys.digest_bytes(data)
    if digest != shard.name:
        raise Damaged("the shard's bytes do not match its name", where=shard.path, found=f"sha256 {digest}")


def _retry(what: str, work: Callable[..., Any], *arguments: Any) -> Any:
    """Do the work, N_TRIES times if need be; the last failure is raised and says what was tried."""
    for attempt in range(N_TRIES - 1):
        try:
            return work(*arguments)
        except (Unreachable, Damaged) as error:
            log.info("%s: %s; trying again", what, error)
        time.sleep(PAUSE_S * 2**attempt)
    try:
        return work(*arguments)
    except Unreachable as error:
        raise Unreachable(f"cannot {what}: {error.what}", todo=error.todo) from None

"""Sharing a store: push and pull shards to and from a folder or any fsspec URL (s3://, gs://, ssh://, ...).

A remote has a store's own layout and, beside the shards, a small file with each shard's keys, by which `pull` selects.
Names are digests: what both sides have is not sent, two who push at once write the same, and what arrives is checked.
`purge` removes rows: a shard that holds some is fetched, rewritten here, sent under its new name, and then removed.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cache import keys, maintenance
from cache.index import Catalog
from cache.maintenance import ForgetReport
from cache.shard_directory import ShardDirectory, shard_directories
from cache.shards import Damaged, Newer, open_shard
from cache.transports import TODO, Unreachable, transport_of
from schema.errors import StoreError

log = logging.getLogger(__name__)

N_TRIES = 3
PAUSE_S = 0.5  # before the second try; doubled before each further one
_DIRECTORY = r"(?:(?!\.\./)[\w.-]+/)*(?:arrays|rows-[0-9a-f]{12})"
_SHARD = re.compile(rf"({_DIRECTORY})/shards/([0-9a-f]{{64}})(\.h5|\.parquet)")
_UNNAMED = re.compile(rf"{_DIRECTORY}/(?:index|quarantine)/[^/]+")  # may hold any row of a store that is a remote too

Result = TypeVar("Result")


@dataclass(frozen=True)
class TransferReport:
    """Shards transferred, their bytes, those that were there already, and those that were damaged (by name)."""

    n_shards: int
    n_bytes: int
    n_present: int
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class RemoteShard:
    """A shard's place at a remote: the shard directory below the root, its name and suffix."""

    directory: str
    name: str
    suffix: str

    @property
    def path(self) -> str:
        return f"{self.directory}/shards/{self.name}{self.suffix}"

    @property
    def keys_path(self) -> str:
        return f"{self.directory}/keys/{self.name}.keys"


class Remote:
    """A remote and the files it listed when this was made; each request is tried N_TRIES times."""

    def __init__(self, url: str | Path, *, may_be_empty: bool = False) -> None:
        """StoreError where no shard lies, unless it `may_be_empty`: a mistyped address looks like an empty remote."""
        self._transport = transport_of(url)
        self.files = _retry("list the remote", self._transport.files)  # path to bytes
        if not may_be_empty and not self.shards():
            found = f"{len(self.files)} other file(s)" if self.files else "nothing"
            todo = "check the address; `fmit cache push` fills a remote"
            raise StoreError("no shard of a store there", where=str(url), found=found, todo=todo)

    def shards(self) -> list[RemoteShard]:
        """Its shards in order of path. Other files are ignored, and paths that lead out of a store."""
        matches = map(_SHARD.fullmatch, sorted(self.files))
        return [RemoteShard(*match.groups()) for match in matches if match]

    def send(self, directory: ShardDirectory, shard: RemoteShard) -> int:
        """Send a shard, and the file of its keys, if they are absent; returns the shard's bytes if it was sent.

        Damaged, with nothing sent, if its bytes do not match its name.
        """
        path = directory.path(shard.name)
        size = path.stat().st_size
        absent = self.files.get(shard.path) != size
        if absent:
            data = path.read_bytes()
            _check_digest(data, shard)
            _retry(f"send {shard.path}", self._transport.write, data, shard.path)
        if shard.keys_path not in self.files:
            with contextlib.suppress(Newer), contextlib.closing(open_shard(path)) as reader:
                data = reader.keys().tobytes()
                _retry(f"send {shard.keys_path}", self._transport.write, data, shard.keys_path)
        return size if absent else 0

    def fetch(self, shard: RemoteShard) -> bytes:
        """A shard's bytes; Damaged if they do not match its name, FileNotFoundError if it is gone."""

        def fetch_once() -> bytes:
            data = self._read(shard.path)
            _check_digest(data, shard)
            return data

        return _retry(f"fetch {shard.path}", fetch_once)

    def keys(self, shard: RemoteShard) -> np.ndarray | None:
        """The keys of a shard, [N] of 32-byte strings; None if the remote has no file of them."""
        if shard.keys_path not in self.files:
            return None
        try:
            data = _retry(f"read {shard.keys_path}", self._read, shard.keys_path)
        except FileNotFoundError:
            return None
        return None if len(data) % keys.KEY_BYTES else np.frombuffer(data, keys.PACKED)

    def count(self, shard: RemoteShard, packed: np.ndarray) -> int | None:
        """How many of these keys a shard holds; None if only the shard itself can say."""
        held = self.keys(shard)
        return None if held is None else int(np.isin(held, packed).sum())

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            _retry(f"remove {path}", self._transport.remove, path)

    def _read(self, path: str) -> bytes:
        data = self._transport.read(path)
        if len(data) != self.files[path]:
            raise Unreachable(f"{path} arrived incomplete, {len(data)} of {self.files[path]} bytes", todo=TODO)
        return data


def push(folder: str | Path, url: str | Path) -> TransferReport:
    """Send the shards that the remote lacks. A damaged shard is moved to quarantine here, never sent.

    StoreError when the remote cannot be reached: what was sent stays and is whole; the same call resumes from there.
    """
    remote = Remote(url, may_be_empty=True)
    n_shards = n_bytes = n_present = 0
    damaged = []
    for directory in shard_directories(Path(folder)):
        base = directory.folder.relative_to(folder).as_posix()
        for name in sorted(directory.names()):
            try:
                n_sent = remote.send(directory, RemoteShard(base, name, directory.suffix))
            except FileNotFoundError:  # compacted meanwhile: its rows are in another shard
                continue
            except Damaged as error:
                directory.set_aside(name, error)
                damaged.append(name)
            else:
                n_bytes += n_sent
                n_shards, n_present = n_shards + (n_sent > 0), n_present + (n_sent == 0)
    return TransferReport(n_shards, n_bytes, n_present, tuple(damaged))


def pull(folder: str | Path, url: str | Path, wanted: Collection[str] | None = None) -> TransferReport:
    """Fetch the shards that are absent here; with `wanted`, only shards that hold some of these keys not yet here.

    A shard is checked against its name before it is published; one that is damaged at the remote is reported.
    StoreError when the remote cannot be reached, or holds no shard.
    """
    remote = Remote(url)
    absent = None if wanted is None else _absent_keys(Path(folder), wanted)
    n_shards = n_bytes = n_present = 0
    damaged = []
    for shard in remote.shards():
        directory = ShardDirectory(Path(folder, shard.directory), shard.suffix)
        if directory.path(shard.name).exists():
            n_present += 1
            continue
        if absent is not None and (held := remote.keys(shard)) is not None:
            useful = np.isin(absent, held)
            if not useful.any():
                continue
            absent = absent[~useful]
        try:
            directory.publish(remote.fetch(shard))
            n_shards, n_bytes = n_shards + 1, n_bytes + remote.files[shard.path]
        except Damaged as error:
            log.warning("%s: refused (%s)", shard.path, error.what)
            damaged.append(shard.name)
        except FileNotFoundError:  # someone removed it from the remote
            continue
    return TransferReport(n_shards, n_bytes, n_present, tuple(damaged))


def purge(url: str | Path, unwanted: Collection[str]) -> ForgetReport:
    """Remove rows by key from a remote; ends with a check of the keys of every shard that is there then.

    A shard without a file of keys is read itself; one that is damaged there is removed. Do not run it while others
    push: their shards may still hold the rows. StoreError when the remote cannot be reached (the same call resumes from
    there), Newer where a shard is of a later version.
    """
    packed, remote = np.unique(keys.pack_keys(unwanted)), Remote(url)
    n_rows = n_shards = 0
    for shard in remote.shards():
        if remote.count(shard, packed) != 0:
            n_removed = _rewrite(remote, shard, unwanted)
            n_rows, n_shards = n_rows + n_removed, n_shards + (n_removed > 0)
    for path in filter(_UNNAMED.fullmatch, remote.files):
        remote.remove(path)
    after = Remote(url, may_be_empty=True)  # shards without a file of keys were read a moment ago
    return ForgetReport(n_rows, n_shards, sum(after.count(shard, packed) or 0 for shard in after.shards()))


def _rewrite(remote: Remote, shard: RemoteShard, unwanted: Collection[str]) -> int:
    """Replace a shard by one without these rows; returns how many it held."""
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
        remote.remove(shard.keys_path)
        remote.remove(shard.path)
    return n_rows


def _absent_keys(folder: Path, wanted: Collection[str]) -> np.ndarray:
    """Which of these keys no shard here holds, sorted, [N] of 32-byte strings."""
    packed = np.unique(keys.pack_keys(wanted))
    for directory in shard_directories(folder):
        packed = packed[~Catalog(directory, "never").index.find(packed)[0]]
    return packed


def _check_digest(data: bytes, shard: RemoteShard) -> None:
    digest = keys.digest_bytes(data)
    if digest != shard.name:
        raise Damaged("the shard's bytes do not match its name", where=shard.path, found=f"sha256 {digest}")


def _retry(what: str, work: Callable[..., Result], *arguments: Any) -> Result:
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

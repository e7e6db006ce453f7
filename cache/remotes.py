"""Sharing a store: push and pull shards to and from a folder or any fsspec URL (s3://, gs://, ssh://, ...).

A remote has a store's own layout, and beside the shards a small file of each one's keys, by which `pull` chooses. Names
are digests: what both sides have does not travel, two who push at once write the same, and what arrives is checked.

Taking rows back from a remote: what was pushed there and should be nowhere any more.

A shard that holds an unwanted row is fetched, rewritten without it here, sent under its new name, and only then
removed.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cache import atomic, keys, maintenance
from cache.index import Catalog
from cache.maintenance import Forgotten
from cache.shard_directory import Shelf, codec_for, file_mode, open_shard, refused, shelves
from cache.shards import Damaged, Newer, check_name
from cache.transports import AGAIN, Transport, Unreachable, transport_of
from schema.errors import StoreError

log = logging.getLogger(__name__)

N_TRIES = 3
PAUSE_S = 0.5  # before the second try; doubled before each further one
_SHARD = re.compile(r"((?:[\w.-]+/)*(?:arrays|rows-[0-9a-f]{12}))/shards/([0-9a-f]{64})(\.h5|\.parquet)")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Moved:
    """Shards that travelled, their bytes, those that were there already, and those that were damaged (by name)."""

    n_shards: int
    n_bytes: int
    n_present: int
    damaged: tuple[str, ...] = ()


def push(folder: str | Path, url: str | Path) -> Moved:
    """Send the shards that the remote lacks. A damaged shard is set aside here, never sent.

    StoreError when the remote cannot be reached: what was sent stays and is whole; the same call goes on from there.
    """
    folder, remote = Path(folder), transport_of(url)
    there = listed(remote, url, empty=True)
    n_shards = n_bytes = n_present = 0
    damaged = []
    for shelf in shelves(folder):
        base = shelf.folder.relative_to(folder).as_posix()
        for name, size in sorted(shelf.names().items()):
            try:
                if send(remote, shelf, name, base, there):
                    n_shards, n_bytes = n_shards + 1, n_bytes + size
                else:
                    n_present += 1
            except FileNotFoundError:  # compacted while we were at it: its rows are in another shard
                continue
            except Damaged as error:
                shelf.set_aside(name, error.what)
                damaged.append(name)
    return Moved(n_shards, n_bytes, n_present, tuple(damaged))


def pull(folder: str | Path, url: str | Path, wanted: Collection[str] | None = None) -> Moved:
    """Fetch the shards that are lacking here; with `wanted`, only shards that hold some of these keys not yet here.

    A shard is checked against its name before it is published; what arrives damaged is refused and reported.
    StoreError where no shard lies at all: an empty remote and a mistyped address look the same.
    """
    folder, remote = Path(folder), transport_of(url)
    there = listed(remote, url)
    n_shards = n_bytes = n_present = 0
    damaged = []
    for target, size, shelf, name in _chosen(folder, there, remote, wanted):
        if shelf.path(name).exists():
            n_present += 1
            continue
        shelf.make()
        try:
            tried(f"fetch {target}", fetch, remote, target, shelf.path(name))
            n_shards, n_bytes = n_shards + 1, n_bytes + size
        except Damaged as error:
            log.warning("%s: refused (%s)", target, error.what)
            damaged.append(name)
        except FileNotFoundError:  # someone removed it from the remote
            continue
    return Moved(n_shards, n_bytes, n_present, tuple(damaged))


def listed(remote: Transport, url: str | Path, *, empty: bool = False) -> dict[str, int]:
    """A remote's files with their sizes; StoreError where none of them is a shard, unless it may be `empty`."""
    there = tried("list the remote", remote.files)
    if not empty and not any(shard_of(target) for target in there):
        found = f"{len(there)} other file(s)" if there else "nothing"
        todo = "check the address; `fmit cache push` fills a remote"
        raise StoreError("no shard of a store there", where=str(url), found=found, todo=todo)
    return there


def sidecar(base: str, name: str) -> str:
    """Where the file of a shard's keys lies."""
    return f"{base}/keys/{name}.keys"


def send(remote: Transport, shelf: Shelf, name: str, base: str, there: Mapping[str, int]) -> bool:
    """Send a shard, and the small file of its keys, unless they are there; whether the shard travelled."""
    path = shelf.path(name)
    target, beside = f"{base}/shards/{path.name}", sidecar(base, name)
    lacking = there.get(target) != path.stat().st_size
    if lacking:
        check_name(path)
        tried(f"send {target}", remote.send, path, target)
    if beside not in there:
        with contextlib.suppress(Newer), open_shard(shelf, name) as reader:  # its keys are for others to tell
            tried(f"send {beside}", remote.write, reader.keys().tobytes(), beside)
    return lacking


def _chosen(
    folder: Path, there: Mapping[str, int], remote: Transport, wanted: Collection[str] | None
) -> Iterator[tuple[str, int, Shelf, str]]:
    """The remote's shards that are of interest: path, size, local shelf, name. Other files of the remote are none."""
    lacking = None if wanted is None else _lacking(folder, wanted)
    for target, size in sorted(there.items()):
        match = shard_of(target)
        if not match:
            continue
        base, name, suffix = match.groups()
        shelf = Shelf(folder / base, suffix)
        if lacking is not None and not shelf.path(name).exists():
            theirs = held(remote, sidecar(base, name), there)
            if theirs is not None:
                useful = np.isin(lacking, theirs)
                if not useful.any():
                    continue
                lacking = lacking[~useful]
        yield target, size, shelf, name


def shard_of(target: str) -> re.Match[str] | None:
    """The parts of a shard's path at a remote; None for any other file, and for one that leads out of a store."""
    return None if ".." in target.split("/") else _SHARD.fullmatch(target)


def _lacking(folder: Path, wanted: Collection[str]) -> np.ndarray:
    """Which of these keys no shelf here holds, sorted, [N] of 32-byte strings."""
    packed = np.unique(keys.pack_keys(wanted))
    for shelf in shelves(folder):
        codec = codec_for(shelf)
        if codec:
            packed = packed[~Catalog(shelf, codec, "never").index.find(packed)[0]]
    return packed


def held(remote: Transport, beside: str, there: Mapping[str, int]) -> np.ndarray | None:
    """The keys of a remote shard, by the small file beside it; None where that says nothing."""
    if beside not in there:
        return None
    try:
        data = tried(f"read {beside}", remote.read, beside)
    except FileNotFoundError:
        return None
    return None if len(data) % keys.KEY_BYTES else np.frombuffer(data, f"S{keys.KEY_BYTES}")


def fetch(remote: Transport, target: str, path: Path, n_bytes: int | None = None) -> None:
    """Fetch a shard; it is published when its bytes match its name. Unreachable where not `n_bytes` arrived."""
    try:
        with atomic.file(path, mode=file_mode(path.parent)) as temporary:
            remote.fetch(target, temporary)
            found = temporary.stat().st_size
            if n_bytes not in (None, found):
                raise Unreachable(f"{target} arrived in part, {found} of {n_bytes} bytes", todo=AGAIN)
            if keys.digest_file(temporary) != path.stem:
                raise Damaged("what arrived does not match its name", where=target)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise refused("a shard cannot be written", path.parent, error) from None


def tried(what: str, work: Callable[..., Result], *arguments: Any) -> Result:
    """Do the work, some times if need be; the last failure passes, saying what was tried."""
    pause = PAUSE_S
    for _ in range(N_TRIES - 1):
        try:
            return work(*arguments)
        except (Unreachable, Damaged) as error:
            log.info("%s: %s; once more", what, error)
            time.sleep(pause)
            pause *= 2
    try:
        return work(*arguments)
    except Unreachable as error:
        raise Unreachable(f"cannot {what}: {error.what}", todo=error.todo) from None


# Of a team's folder that is store and remote at once: an index names keys, what is set aside holds nobody knows what.
_BESIDE = re.compile(r"(?:[\w.-]+/)*(?:arrays|rows-[0-9a-f]{12})/(?:index|quarantine)/[^/]+")


def forget(url: str | Path, unwanted: Collection[str]) -> Forgotten:
    """Remove rows by key from a remote; ends with a look at the keys of every shard that is there then.

    A shard's keys are those in the small file beside it; where there is none the shard itself is read. One that lies
    damaged there goes as a whole. Not to be run while others push: theirs may hold the rows still. StoreError when the
    remote cannot be reached (the same call goes on from there), Newer where a shard is of a later version.
    """
    packed, remote = np.unique(keys.pack_keys(unwanted)), transport_of(url)
    there = listed(remote, url)
    n_rows = n_shards = 0
    for target in sorted(there):
        removed = _leave_out(remote, target, there, packed)
        n_rows, n_shards = n_rows + removed, n_shards + (removed > 0)
    for target in filter(_BESIDE.fullmatch, there):
        _remove(remote, target)
    after = listed(remote, url, empty=True)
    return Forgotten(n_rows, n_shards, sum(_n_held(remote, target, after, packed) for target in after))


def _leave_out(remote: Transport, target: str, there: Mapping[str, int], packed: np.ndarray) -> int:
    """Put a shard without these rows in the place of one with them; returns how many rows went."""
    match = shard_of(target)
    if not match or not _may_hold(remote, match, there, packed):
        return 0
    base, name, suffix = match.groups()
    with tempfile.TemporaryDirectory(prefix="fmit-") as folder:
        shelf, n_rows = Shelf(Path(folder) / base, suffix), 0
        shelf.make()
        with contextlib.suppress(Damaged):  # it helps nobody, and what it holds cannot be told
            tried(f"fetch {target}", fetch, remote, target, shelf.path(name), there[target])
            n_rows = maintenance.forget(folder, keys.unpack_keys(packed)).n_rows
        for new in sorted(shelf.names()):
            send(remote, shelf, new, base, there)
        if name not in shelf.names():
            _remove(remote, sidecar(base, name))
            _remove(remote, target)
    return n_rows


def _n_held(remote: Transport, target: str, there: Mapping[str, int], packed: np.ndarray) -> int:
    """How many of these rows a shard of the remote holds; shards without a file of keys were read a moment ago."""
    match = shard_of(target)
    found = held(remote, sidecar(*match.groups()[:2]), there) if match else None
    return 0 if found is None else int(np.isin(found, packed).sum())


def _may_hold(remote: Transport, match: re.Match[str], there: Mapping[str, int], packed: np.ndarray) -> bool:
    found = held(remote, sidecar(*match.groups()[:2]), there)
    return found is None or bool(np.isin(found, packed).any())


def _remove(remote: Transport, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        tried(f"remove {target}", remote.remove, target)

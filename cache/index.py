"""Where a key's row lies: sorted arrays of keys, searched for many keys at once. A cache of what the shards hold.

A key that lies in several shards is found in the one whose name sorts first: every reader of the same shards returns
the same row.

A `Catalog` keeps the index of a shard directory up to date and stores it in index files.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cache import atomic, hdf5, keys
from cache.shard_directory import ShardDirectory
from cache.shards import Check, Codec, Newer
from schema.errors import StoreError

log = logging.getLogger(__name__)

N_UNINDEXED = 16  # shards without an index file, whose keys are read at opening; with more, a file is written
RACY_NS = 2_000_000_000  # a folder changed this recently may change again within the same time stamp


class Segment(NamedTuple):
    """N rows sorted by (key, shard): keys [N] S32, first 8 bytes of the shard's name [N] uint64, rows [N] uint32."""

    keys: np.ndarray
    shards: np.ndarray
    rows: np.ndarray

    def take(self, which: np.ndarray) -> Segment:
        return Segment(*(column[which] for column in self))


_EMPTY = Segment(np.zeros(0, keys.PACKED), np.zeros(0, np.uint64), np.zeros(0, np.uint32))


@dataclass
class Index:
    """The rows of all shards in `sizes` (name to file size in bytes)."""

    sizes: dict[str, int] = field(default_factory=dict)
    _all: Segment = _EMPTY
    _names: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Rows; a key that lies in two shards counts twice."""
        return len(self._all.keys)

    def add(self, segment: Segment, sizes: Mapping[str, int]) -> None:
        """Add the rows of a segment, except those of shards that are already in the index."""
        new = {name: size for name, size in sizes.items() if name not in self.sizes}
        if len(new) < len(sizes):
            segment = segment.take(np.isin(segment.shards, _prefixes(new)))
        self.sizes.update(new)
        self._names.update(zip(_prefixes(new).tolist(), new, strict=True))
        self._all = merge(self._all, segment)

    def remove(self, names: Iterable[str]) -> None:
        """Remove shards and their rows."""
        gone = _prefixes(name for name in names if self.sizes.pop(name, None) is not None)
        if len(gone):
            self._all = self._all.take(~np.isin(self._all.shards, gone))

    def find(self, packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each key [N]: whether it is here, the prefix of its shard's name (uint64), and its row (uint32)."""
        if not len(self):
            return np.zeros(len(packed), bool), np.zeros(len(packed), np.uint64), np.zeros(len(packed), np.uint32)
        order = np.argsort(packed)  # neighbouring keys search the same part of memory
        at = np.empty(len(packed), np.intp)
        at[order] = np.minimum(np.searchsorted(self._all.keys, packed[order]), len(self) - 1)
        first = self._all.take(at)
        return first.keys == packed, first.shards, first.rows

    def name(self, prefix: int) -> str:
        """The shard whose name starts with these 8 bytes."""
        return self._names[prefix]

    def keys(self) -> np.ndarray:
        """All keys, sorted, each once, [N] S32."""
        return np.unique(self._all.keys)

    def encode(self) -> bytes:
        """The bytes of an index file."""
        columns = {**self._all._asdict(), "keys": self._all.keys.view("u1").reshape(-1, keys.KEY_BYTES)}
        return hdf5.encode(columns, keys.canonical({"shards": self.sizes}))


def read_index(path: Path) -> tuple[Segment, dict[str, int]]:
    """An index file's rows and shards; OSError if its bytes do not match its name, or its layout is another."""
    data = path.read_bytes()
    if keys.digest_bytes(data) != path.stem:
        raise OSError("the index's bytes do not match its name")
    note, extents = hdf5.extents(path)
    if set(Segment._fields) - set(extents):
        raise OSError("the index has another layout")
    packed, shards, rows = (extents[name].view(data) for name in Segment._fields)
    return Segment(packed.view(keys.PACKED).reshape(-1), shards, rows), json.loads(note)["shards"]


def segment_of(shards: Mapping[str, np.ndarray]) -> Segment:
    """The segment of some shards: name to keys [N] in row order."""
    columns = [_EMPTY]
    for name in sorted(shards):
        n_rows = len(shards[name])
        columns.append(Segment(shards[name], np.repeat(_prefixes([name]), n_rows), np.arange(n_rows, dtype=np.uint32)))
    whole = Segment(*map(np.concatenate, zip(*columns, strict=True)))
    return whole.take(np.argsort(whole.keys, kind="stable"))


def merge(whole: Segment, part: Segment) -> Segment:
    """One segment of two; quick where `part` is small."""
    if not len(whole.keys):
        return part
    at = np.searchsorted(whole.keys, part.keys)
    while True:  # a key in several shards: the shard whose name sorts first comes first
        here = whole.take(np.minimum(at, len(whole.keys) - 1))
        later = (at < len(whole.keys)) & (here.keys == part.keys) & (here.shards < part.shards)
        if not later.any():
            return Segment(*(np.insert(old, at, new) for old, new in zip(whole, part, strict=True)))
        at += later


def _prefixes(names: Iterable[str]) -> np.ndarray:
    return np.array([int(name[:16], 16) for name in names], np.uint64)


class Catalog:
    """What a shard directory holds: `index` says where a key lies. Without `codec` shards of any schema are read."""

    def __init__(self, directory: ShardDirectory, check: Check, codec: Codec | None = None) -> None:
        self._directory, self._check, self._codec = directory, check, codec
        self.index = Index()
        self._index_files: list[Path] = []
        self._indexed: set[str] = set()  # shards that those files cover
        self._unusable: set[str] = set()  # of a later format, or damaged on a read-only disk
        self._scanned = (0, 0)  # the folder's time at the last scan, and the time of that scan, in ns
        if not directory.shards.is_dir():
            directory.make()
        for folder in (directory.shards, directory.index):
            atomic.sweep(folder)
        self._load()
        self.scan()

    def changed(self) -> bool:
        """Whether shards may have come or gone since the last scan."""
        modified, at = self._scanned
        return self._directory.modified_ns() != modified or at - modified < RACY_NS

    def scan(self) -> None:
        """Bring the index up to date with the folder: removed shards leave it, the keys of new ones are read."""
        self._scanned = (self._directory.modified_ns(), time.time_ns())
        names = self._directory.names()
        self.index.remove(self.index.sizes.keys() - names)
        new = names - self.index.sizes.keys() - self._unusable
        sizes, packed = {}, {}
        for shard in self._directory.survey(new, check=self._check, codec=self._codec, read_keys=True):
            if shard.error:
                self.exclude(shard.name, shard.error)
            elif shard.keys is not None:
                sizes[shard.name], packed[shard.name] = shard.size, shard.keys
        self.index.add(segment_of(packed), sizes)

    def add(self, name: str, size: int, packed: np.ndarray) -> None:
        """A shard was published: its bytes, and its keys [N] in row order."""
        self._unusable.discard(name)
        self.index.add(segment_of({name: packed}), {name: size})
        self.save()

    def remove(self, name: str) -> None:
        """A shard is gone: someone compacted, collected or dropped it."""
        self.index.remove([name])
        self._scanned = (0, 0)

    def exclude(self, name: str, error: StoreError) -> None:
        """A shard cannot be used: a damaged one goes to quarantine, one of a later version stays where it is."""
        self.index.remove([name])
        self._unusable.add(name)
        if isinstance(error, Newer):
            log.warning("%s; its rows count as missing", error)
        else:
            self._directory.set_aside(name, error)

    def save(self) -> None:
        """Write an index file of all shards once enough have none; a failure is only logged, for it costs only time."""
        if len(self.index.sizes.keys() - self._indexed) < N_UNINDEXED or not self._directory.writable():
            return
        try:
            path = self._directory.publish_index(self.index.encode())
        except StoreError as error:
            log.warning("%s", error)
            return
        for old in self._index_files:
            if old != path:
                with contextlib.suppress(OSError):
                    old.unlink()
        self._index_files, self._indexed = [path], set(self.index.sizes)

    def _load(self) -> None:
        for path in sorted(self._directory.index.glob("*.h5")):
            try:
                segment, sizes = read_index(path)
            except FileNotFoundError:  # replaced by a newer one
                continue
            except OSError as error:
                log.warning("%s: index removed (%s); the shards themselves are read", path, error)
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            self.index.add(segment, sizes)
            self._index_files.append(path)
            self._indexed.update(sizes)
        sizes = {name: stat.st_size for name, stat in self._directory.stats().items()}
        self.index.remove([name for name, size in self.index.sizes.items() if sizes.get(name) != size])

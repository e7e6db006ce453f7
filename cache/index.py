"""Where a key's row lies: sorted arrays of keys, searched all at once. A cache of what the shards themselves say.

Segments grow as shards come, and two of like size are merged, so their number stays logarithmic. A key that lies in
several shards is found in the one whose name comes first: every reader of the same shards returns the same row.

The catalog of a shelf: its index, kept in line with the shards that are there, and remembered in index files.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache import atomic, hdf5, keys
from cache.shard_directory import Shelf
from cache.shards import Check, Damaged, Newer
from schema.errors import StoreError

KEY = np.dtype(f"S{keys.KEY_BYTES}")
_NOWHERE = np.iinfo(np.uint64).max  # no shard: sorts behind every name


@dataclass(frozen=True)
class Segment:
    """N rows sorted by (key, shard): keys [N] S32, first 8 bytes of the shard's name [N] uint64, rows [N] uint32."""

    keys: np.ndarray
    shards: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, which: np.ndarray) -> Segment:
        return Segment(self.keys[which], self.shards[which], self.rows[which])


@dataclass
class Index:
    """The rows of all shards in `sizes` (name to file size in bytes)."""

    sizes: dict[str, int] = field(default_factory=dict)
    _segments: list[Segment] = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Rows, a key that lies in two shards counted twice."""
        return sum(len(segment) for segment in self._segments)

    def add(self, shards: Mapping[str, tuple[int, np.ndarray]]) -> None:
        """Take in shards: name to (size, keys [N] in row order)."""
        if not shards:
            return
        self._add(
            segment_of({name: packed for name, (_, packed) in shards.items()}),
            {name: size for name, (size, _) in shards.items()},
        )

    def add_segment(self, segment: Segment, sizes: Mapping[str, int]) -> None:
        """Take in a sorted segment, less the shards that the index has already."""
        fresh = {name: size for name, size in sizes.items() if name not in self.sizes}
        if len(fresh) < len(sizes):
            segment = segment.take(np.isin(segment.shards, _prefixes(fresh)))
        self._add(segment, fresh)

    def remove(self, names: Iterable[str]) -> None:
        """Forget shards and their rows."""
        gone = [name for name in names if self.sizes.pop(name, None) is not None]
        if gone:
            prefixes = _prefixes(gone)
            kept = [segment.take(~np.isin(segment.shards, prefixes)) for segment in self._segments]
            self._segments = [segment for segment in kept if len(segment)]
            for prefix in prefixes:
                self._names.pop(int(prefix), None)

    def find(self, packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each key [N]: whether it is here, the prefix of its shard's name (uint64), and its row (uint32)."""
        order = np.argsort(packed)  # asked in order, neighbours share their way through the cache
        asked = packed[order]
        shards = np.full(len(asked), _NOWHERE, np.uint64)
        rows = np.zeros(len(asked), np.uint32)
        for segment in self._segments:
            at = np.minimum(np.searchsorted(segment.keys, asked), len(segment) - 1)
            better = (segment.keys[at] == asked) & (segment.shards[at] < shards)
            shards[better] = segment.shards[at[better]]
            rows[better] = segment.rows[at[better]]
        back = np.argsort(order)
        shards, rows = shards[back], rows[back]
        return shards != _NOWHERE, shards, rows

    def name(self, prefix: int) -> str:
        """The shard whose name starts with these 8 bytes."""
        return self._names[prefix]

    def keys(self) -> np.ndarray:
        """All keys, sorted, each once, [N] S32."""
        return np.unique(np.concatenate([np.zeros(0, KEY), *(segment.keys for segment in self._segments)]))

    def image(self) -> bytes:
        """The bytes of an index file."""
        whole = merged(self._segments)
        table = {"keys": whole.keys.view("u1").reshape(-1, keys.KEY_BYTES), "shards": whole.shards, "rows": whole.rows}
        return hdf5.image(table, keys.canonical({"shards": self.sizes}))

    def _add(self, segment: Segment, sizes: Mapping[str, int]) -> None:
        self.sizes.update(sizes)
        self._names.update({int(name[:16], 16): name for name in sizes})
        if len(segment):
            self._segments.append(segment)
        while len(self._segments) > 1 and 2 * len(self._segments[-1]) > len(self._segments[-2]):
            self._segments.append(merged([self._segments.pop(), self._segments.pop()]))


def read_index(path: Path) -> tuple[Segment, dict[str, int]]:
    """An index file's rows and shards; OSError when its bytes do not match its name, or it is of another layout."""
    data = path.read_bytes()
    if keys.digest_bytes(data) != path.stem:
        raise OSError("the index's bytes do not match its name")
    note, places = hdf5.places(path)
    if {"keys", "shards", "rows"} - set(places):
        raise OSError("the index has another layout")
    found = {}
    for name, place in places.items():
        count = int(np.prod(place.shape))
        found[name] = np.frombuffer(data, place.dtype, count, place.offset)
    return Segment(found["keys"].view(KEY), found["shards"], found["rows"]), json.loads(note)["shards"]


def segment_of(shards: Mapping[str, np.ndarray]) -> Segment:
    """The sorted segment of some shards: name to keys [N] in row order."""
    ordered = sorted(shards)
    parts = [
        Segment(
            shards[name],
            np.full(len(shards[name]), int(name[:16], 16), np.uint64),
            np.arange(len(shards[name]), dtype=np.uint32),
        )
        for name in ordered
    ]
    return merged(parts)


def merged(segments: list[Segment]) -> Segment:
    """One sorted segment of several, each of them sorted or of one shard."""
    empty = Segment(np.zeros(0, KEY), np.zeros(0, np.uint64), np.zeros(0, np.uint32))
    whole = Segment(
        *(np.concatenate([getattr(part, name) for part in [empty, *segments]]) for name in ("keys", "shards", "rows"))
    )
    order = np.argsort(whole.keys, kind="stable")
    sorted_keys = whole.keys[order]
    if np.any(sorted_keys[1:] == sorted_keys[:-1]):  # a key in two shards: then their order matters too
        by_shard = np.argsort(whole.shards, kind="stable")
        order = by_shard[np.argsort(whole.keys[by_shard], kind="stable")]
    return whole.take(order)


def _prefixes(names: Iterable[str]) -> np.ndarray:
    return np.array([int(name[:16], 16) for name in names], np.uint64)


log = logging.getLogger(__name__)

N_UNINDEXED = 16  # shards that an opener reads the keys of; from there on an index file is written
RACY_NS = 2_000_000_000  # a folder changed this lately may change again with the same time stamp


class Catalog:
    """What a shelf holds. `index` answers where a key lies; `codec` opens shards."""

    def __init__(self, shelf: Shelf, codec: Any, check: Check) -> None:
        self._shelf, self._codec, self._check = shelf, codec, check
        self.index = Index()
        self._index_files: list[Path] = []
        self._indexed: set[str] = set()  # shards that those files cover
        self._bad: set[str] = set()  # not to be read: of a later format, or damaged on a read-only disk
        self._stamp = (0, 0)  # the folder's time at the last scan, and the time of that scan, in ns
        if not shelf.shards.is_dir():
            shelf.make()
        for folder in (shelf.shards, shelf.index):
            atomic.sweep(folder)
        self._load()
        self.scan()

    def changed(self) -> bool:
        """Whether shards may have come or gone since the last scan."""
        stamp, seen_at = self._stamp
        return self._shelf.stamp() != stamp or seen_at - stamp < RACY_NS

    def scan(self) -> None:
        """Bring the index in line with the folder: what has gone leaves it, the keys of new shards come in."""
        self._stamp = (self._shelf.stamp(), time.time_ns())
        present = self._shelf.listed()
        self.index.remove(self.index.sizes.keys() - present)
        fresh: dict[str, tuple[int, np.ndarray]] = {}
        for name in sorted(present - self.index.sizes.keys() - self._bad):
            path = self._shelf.path(name)
            try:
                with contextlib.closing(self._codec.open(path, self._check)) as reader:
                    fresh[name] = (path.stat().st_size, reader.keys())
            except FileNotFoundError:
                continue
            except Newer as error:
                self.leave(name, error)
            except Damaged as error:
                self.set_aside(name, error)
        self.index.add(fresh)

    def add(self, name: str, size: int, packed: np.ndarray) -> None:
        """A shard was published: its bytes, and its keys [N] in row order."""
        self._bad.discard(name)
        self.index.add({name: (size, packed)})
        self.save()

    def lost(self, name: str) -> None:
        """A shard has gone: someone compacted, collected or dropped it."""
        self.index.remove([name])
        self._stamp = (0, 0)

    def leave(self, name: str, error: StoreError) -> None:
        """A shard is for later versions: it stays where it is, and its rows count as missing."""
        self.index.remove([name])
        self._bad.add(name)
        log.warning("%s; its rows count as missing", error)

    def set_aside(self, name: str, error: StoreError) -> None:
        """A shard is damaged: to the quarantine with it."""
        self.index.remove([name])
        self._bad.add(name)
        self._shelf.set_aside(name, f"{error.what}{f' ({error.found})' if error.found else ''}")

    def save(self) -> None:
        """Write an index file of all shards once enough of them have none; it may fail, for it only saves time."""
        if len(self.index.sizes.keys() - self._indexed) < N_UNINDEXED or not self._shelf.writable():
            return
        try:
            path = self._shelf.publish_index(self.index.image())
        except StoreError as error:
            log.warning("%s", error)
            return
        for old in self._index_files:
            if old != path:
                with contextlib.suppress(OSError):
                    old.unlink()
        self._index_files, self._indexed = [path], set(self.index.sizes)

    def _load(self) -> None:
        for path in sorted(self._shelf.index.glob("*.h5")):
            try:
                segment, sizes = read_index(path)
            except FileNotFoundError:  # a newer one took its place
                continue
            except OSError as error:
                log.warning("%s: index dropped (%s); the shards themselves are read", path, error)
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            self.index.add_segment(segment, sizes)
            self._index_files.append(path)
            self._indexed.update(sizes)
        present = self._shelf.names()  # a file of another size than when it was indexed is looked at again
        self.index.remove([name for name, size in self.index.sizes.items() if present.get(name) != size])

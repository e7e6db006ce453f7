"""The catalog of a shelf: its index, kept in line with the shards that are there, and remembered in index files."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from cache import atomic
from cache.index import Index, read_index
from cache.shards import Check, Damaged, Newer
from cache.shelf import Shelf
from schema.errors import StoreError

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

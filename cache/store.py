"""The store: rows by key, computed once. Deleting it costs time but no results.

Rows that were put wait in memory until `flush` publishes them as one immutable shard. No lock is needed: two writers of
the same row make two shards with equal rows. A `Store` belongs to one thread; any number of processes may open the same
folder. A `Catalog` keeps the `Index` of a shard directory up to date and stores it in index files. A key that lies in
several shards is read from the one whose name sorts first, so that all readers return the same row.
"""

import contextlib
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from cache import atomic, hdf5, keys
from cache.shard_directory import ShardDirectory, make_note, write_file
from cache.shards import ArrayCodec, Check, Damaged, Newer, Reader, RowCodec, open_shard
from schema.errors import MissingKeys, StoreError

log = logging.getLogger(__name__)
WAITING_MAX_BYTES = 32 << 20  # of rows that wait for a flush; with more, `put` flushes
N_READERS = 64  # shards held open
USED_S = 86400.0  # a shard's time is renewed at most once a day when it is read: `gc` removes what is unused
N_UNINDEXED = 16  # shards without an index file, whose keys are read at opening; with more, a file is written
RACY_NS = 2_000_000_000  # a folder changed this recently may change again within the same time stamp


def root() -> Path:
    """The folder of the stores: `$FMIT_STORE`, else `.fmit/store`."""
    return Path(os.environ.get("FMIT_STORE") or ".fmit/store")


class Store(contextlib.AbstractContextManager["Store"]):
    """Rows by key in one folder, created if absent; a context manager that flushes at its end.

    Without `schema` a value is a float16 or float32 array of any shape; with an Arrow schema it is a list of row dicts.
    `check`: a row's digest on every read ("always"), a shard's digest when first read ("shard"), or none ("never").
    `producer` (JSON) describes in each shard what computed the rows.
    """

    def __init__(
        self,
        folder: str | Path,
        schema: pa.Schema | None = None,
        check: Check = "always",
        producer: Mapping[str, Any] | None = None,
    ) -> None:
        if check not in ("always", "shard", "never"):
            raise StoreError(f"unknown check {check!r}", todo="use always, shard or never")
        self._arguments = (folder, schema, check, dict(producer or {}))
        self._codec: Any = ArrayCodec() if schema is None else RowCodec(schema)
        self._directory = ShardDirectory(Path(folder) / self._codec.kind, self._codec.suffix, self._codec)
        self._check = check
        self._note = make_note(producer or {})
        self._catalog = Catalog(self._directory, check)
        self._waiting: dict[str, Any] = {}
        self._n_waiting_bytes = 0
        self._readers: OrderedDict[str, Reader] = OrderedDict()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close()
        except StoreError as failed:
            if error is None:
                raise
            log.warning("%s", failed)  # the error that ended the block says more

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens its own store; rows that wait stay here."""
        return Store, self._arguments

    def missing(self, wanted: Iterable[str]) -> list[str]:
        """The keys that the store does not hold, in order, each once."""
        unique = list(dict.fromkeys(wanted))
        packed = keys.pack_keys(unique)
        self._catalog.refresh()
        present = self._catalog.index.find(packed)[0].tolist()
        return [key for key, here in zip(unique, present, strict=True) if not here and key not in self._waiting]

    def put(self, rows: Mapping[str, Any]) -> None:
        """Add rows; a key that is present keeps its value. StoreError, with nothing added, for an invalid value."""
        admitted = {key: self._codec.admit(rows[key], key) for key in self.missing(rows)}
        if admitted and not self._directory.writable():
            todo = "fix its permissions, or set FMIT_STORE"
            raise StoreError("the store is read-only", where=str(self._directory.folder), todo=todo)
        for key, value in admitted.items():
            self._waiting[key] = value
            self._n_waiting_bytes += self._codec.size(value)
            if self._n_waiting_bytes >= WAITING_MAX_BYTES:
                self.flush()

    def flush(self) -> None:
        """Publish what was put; on return it survives a crash. StoreError (disk full, ...) leaves the store intact."""
        if not self._waiting:
            return
        data = self._codec.encode(self._waiting, self._note)
        name = self._directory.publish(data)
        self._catalog.add(name, len(data), keys.pack_keys(sorted(self._waiting)))
        self._waiting, self._n_waiting_bytes = {}, 0

    def get(self, wanted: Sequence[str]) -> list[Any]:
        """The values of keys, in order; MissingKeys lists those that the store does not hold intact."""
        values: list[Any] = [None] * len(wanted)
        packed = keys.pack_keys(wanted)
        waiting = [at for at, key in enumerate(wanted) if key in self._waiting] if self._waiting else []
        for at in waiting:
            values[at] = self._codec.admit(self._waiting[wanted[at]], wanted[at])
        todo = np.delete(np.arange(len(values)), waiting)
        is_scanned = False
        while len(todo):
            present, shards, rows = self._catalog.index.find(packed[todo])
            if present.all():
                done = self._fill(values, packed, todo, shards, rows)
                todo, is_scanned = todo[~done], is_scanned and bool(done.all())
            elif not is_scanned and self._catalog.refresh():
                is_scanned = True
            else:
                absent = dict.fromkeys(wanted[at] for at in todo[~present].tolist())
                raise MissingKeys(list(absent), where=str(self._directory.folder))
        return values

    def close(self) -> None:
        try:
            self.flush()
            self._catalog.save()
        finally:
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()

    def _fill(
        self, values: list[Any], packed: np.ndarray, todo: np.ndarray, shards: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Read what can be read, shard by shard; which of `todo` are done. A shard that fails leaves the index."""
        done = np.zeros(len(todo), bool)
        for prefix in np.unique(shards).tolist():
            here, name = np.flatnonzero(shards == prefix), self._catalog.index.names[prefix]
            try:
                read = self._reader(name).read(rows[here].tolist(), keys.split_keys(packed[todo[here]]))
            except FileNotFoundError:  # another process removed it
                self._catalog.remove(name)
            except (Damaged, Newer) as error:
                if reader := self._readers.pop(name, None):
                    reader.close()
                self._catalog.exclude(name, error)
            else:
                done[here] = True
                for at, value in zip(todo[here].tolist(), read, strict=True):
                    values[at] = value
        return done

    def _reader(self, name: str) -> Reader:
        if name in self._readers:
            self._readers.move_to_end(name)
            return self._readers[name]
        path = self._directory.path(name)
        reader = self._readers[name] = open_shard(path, self._check, self._codec)
        with contextlib.suppress(OSError):  # read-only, or another user's
            if time.time() - path.stat().st_mtime > USED_S:
                os.utime(path)
        while len(self._readers) > N_READERS:
            self._readers.popitem(last=False)[1].close()
        return reader


class Segment(NamedTuple):
    """N rows sorted by (key, shard): keys [N] S32, first 8 bytes of the shard's name [N] uint64, rows [N] uint32."""

    keys: np.ndarray
    shards: np.ndarray
    rows: np.ndarray

    def take(self, which: np.ndarray) -> "Segment":
        return Segment(*(column[which] for column in self))


_EMPTY = Segment(np.zeros(0, keys.PACKED), np.zeros(0, np.uint64), np.zeros(0, np.uint32))


class Index:
    """The rows of all shards in `sizes` (name to file size in bytes)."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self._all = _EMPTY
        self.names: dict[int, str] = {}  # of the shards, by their first 8 bytes

    def add(self, segment: Segment, sizes: Mapping[str, int]) -> None:
        """Add the rows of a segment, except those of shards that are already in the index."""
        new = {name: size for name, size in sizes.items() if name not in self.sizes}
        if len(new) < len(sizes):
            segment = segment.take(np.isin(segment.shards, _prefixes(new)))
        self.sizes.update(new)
        self.names.update(zip(_prefixes(new).tolist(), new, strict=True))
        self._all = merge(self._all, segment)

    def remove(self, names: Iterable[str]) -> None:
        gone = _prefixes(name for name in names if self.sizes.pop(name, None) is not None)
        if len(gone):
            self._all = self._all.take(~np.isin(self._all.shards, gone))

    def find(self, packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each key [N]: whether it is here, the prefix of its shard's name (uint64), and its row (uint32)."""
        n_rows = len(self._all.keys)
        if not n_rows:
            return np.zeros(len(packed), bool), np.zeros(len(packed), np.uint64), np.zeros(len(packed), np.uint32)
        order = np.argsort(packed)  # neighboring keys search the same part of memory
        at = np.empty(len(packed), np.intp)
        at[order] = np.minimum(np.searchsorted(self._all.keys, packed[order]), n_rows - 1)
        first = self._all.take(at)
        return first.keys == packed, first.shards, first.rows

    def encode(self) -> bytes:
        columns = {**self._all._asdict(), "keys": self._all.keys.view("u1").reshape(-1, keys.KEY_BYTES)}
        return hdf5.encode(columns, keys.canonical({"shards": self.sizes}))


def read_index(path: Path) -> tuple[Segment, dict[str, int]]:
    """An index file's rows, and its shards' sizes; OSError if it is damaged or has a different layout."""
    data = path.read_bytes()
    if keys.digest_bytes(data) != path.stem:
        raise OSError("the index's bytes do not match its name")
    note, extents = hdf5.extents(path)
    if set(Segment._fields) - set(extents):
        raise OSError("the index has a different layout")
    packed, shards, rows = (extents[name].view(data) for name in Segment._fields)
    return Segment(packed.view(keys.PACKED).reshape(-1), shards, rows), json.loads(note)["shards"]


def segment_of(shards: Mapping[str, np.ndarray]) -> Segment:
    """The segment of some shards: name to keys [N] in row order."""
    columns = [_EMPTY]
    for name, packed in sorted(shards.items()):
        n_rows = len(packed)
        columns.append(Segment(packed, np.repeat(_prefixes([name]), n_rows), np.arange(n_rows, dtype=np.uint32)))
    whole = Segment(*map(np.concatenate, zip(*columns, strict=True)))
    return whole.take(np.argsort(whole.keys, kind="stable"))


def merge(whole: Segment, part: Segment) -> Segment:
    """One segment of two; fast where `part` is small."""
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
    """What a shard directory holds: `index` says where a key lies."""

    def __init__(self, directory: ShardDirectory, check: Check = "never") -> None:
        self._directory, self._check = directory, check
        self.index = Index()
        self._index_files: list[Path] = []
        self._indexed: set[str] = set()  # shards that those files cover
        self._unusable: set[str] = set()  # of a newer format, or damaged on a read-only disk
        self._scanned = (0, 0)  # the folder's time at the last scan, and the time of that scan, in ns
        if not directory.shards.is_dir():
            directory.make()
        atomic.sweep(directory.shards)
        atomic.sweep(directory.index)
        for path in sorted(directory.index.glob("*.h5")):
            try:
                segment, sizes = read_index(path)
            except FileNotFoundError:  # replaced by a newer one
                continue
            except OSError as error:
                log.warning("%s: index removed (%s); reading the shards instead", path, error)
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            self.index.add(segment, sizes)
            self._index_files.append(path)
            self._indexed.update(sizes)
        sizes = {name: stat.st_size for name, stat in directory.stats().items()}
        self.index.remove([name for name, size in self.index.sizes.items() if sizes.get(name) != size])
        self.scan()

    def refresh(self) -> bool:
        """Scan the folder again if shards may have come or gone since the last scan; whether it was scanned."""
        modified, at = self._scanned
        if self._directory.modified_ns() == modified and at - modified >= RACY_NS:
            return False
        self.scan()
        return True

    def scan(self) -> None:
        """Bring the index up to date with the folder: removed shards leave it, the keys of new ones are read."""
        self._scanned = (self._directory.modified_ns(), time.time_ns())
        names = self._directory.names()
        self.index.remove(self.index.sizes.keys() - names)
        new = names - self.index.sizes.keys() - self._unusable
        sizes, packed = {}, {}
        for shard in self._directory.survey(new, check=self._check, read_keys=True):
            if shard.error:
                self.exclude(shard.name, shard.error)
            else:
                sizes[shard.name], packed[shard.name] = shard.size, shard.keys
        self.index.add(segment_of(packed), sizes)

    def add(self, name: str, size: int, packed: np.ndarray) -> None:
        self._unusable.discard(name)
        self.index.add(segment_of({name: packed}), {name: size})
        self.save()

    def remove(self, name: str) -> None:
        self.index.remove([name])
        self._scanned = (0, 0)

    def exclude(self, name: str, error: StoreError) -> None:
        """Ignore a shard that cannot be used: a damaged one goes to quarantine, one from a newer version stays."""
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
        data = self.index.encode()
        path = self._directory.index / f"{keys.digest_bytes(data)}.h5"
        try:
            write_file(path, data, "a shard cannot be written")
        except StoreError as error:
            log.warning("%s", error)
            return
        for old in set(self._index_files) - {path}:
            with contextlib.suppress(OSError):
                old.unlink()
        self._index_files, self._indexed = [path], set(self.index.sizes)

"""The store: rows by key, computed once. Deleting it costs time, never a result.

Rows that were put wait in memory until `flush` publishes them as one immutable shard. No lock is needed: two writers of
the same row make two shards with equal rows. A damaged shard goes to quarantine and its rows count as missing.
A `Store` belongs to one thread; any number of processes may open the same folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cache import keys
from cache.index import Catalog
from cache.shard_directory import ShardDirectory, make_note
from cache.shards import ArrayCodec, Check, Damaged, Newer, Reader, RowCodec, open_shard
from schema.errors import MissingKeys, StoreError

if TYPE_CHECKING:
    import pyarrow as pa


log = logging.getLogger(__name__)

WAITING_MAX_BYTES = 32 << 20  # of rows that wait for a flush; with more, `put` flushes
N_READERS = 64  # shards held open
USED_S = 86400.0  # a shard's time is renewed at most once a day when it is read: `gc` removes what is unused


def root() -> Path:
    """The folder of the stores: `$FMIT_STORE`, else `.fmit/store`."""
    return Path(os.environ.get("FMIT_STORE") or ".fmit/store")


class Store:
    """Rows by key in one folder; made by `open`."""

    def __init__(self, folder: Path, schema: pa.Schema | None, check: Check, producer: Mapping[str, Any]) -> None:
        self._arguments = (folder, schema, check, dict(producer))
        self._codec: Any = ArrayCodec() if schema is None else RowCodec(schema)
        self._directory = ShardDirectory(folder / self._codec.kind, self._codec.suffix)
        self._check = check
        self._note = make_note(producer)
        self._catalog = Catalog(self._directory, check, self._codec)
        self._waiting: dict[str, Any] = {}
        self._n_waiting_bytes = 0
        self._readers: OrderedDict[str, Reader] = OrderedDict()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        schema: pa.Schema | None = None,
        check: Check = "always",
        producer: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open a store, created if absent; a context manager that flushes at its end.

        Without `schema` a value is a float16 or float32 array of any shape; with an Arrow schema it is a list of row
        dicts. `check`: a row's digest on every read ("always"), a shard's digest when first read ("shard"), or none
        ("never"). `producer` describes in each shard what computed the rows (JSON; `name`, `version`, `device`).
        """
        if check not in ("always", "shard", "never"):
            raise StoreError(f"unknown check {check!r}", todo="use always, shard or never")
        return cls(Path(folder), schema, check, producer or {})

    def __enter__(self) -> Self:
        return self

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
        self._refresh()
        present = self._catalog.index.find(packed)[0].tolist()
        return [key for key, here in zip(unique, present, strict=True) if not here and key not in self._waiting]

    def put(self, rows: Mapping[str, Any]) -> None:
        """Add rows; a key that is present keeps its value. StoreError, with nothing added, for a value of another kind.

        Rows survive a crash once they are flushed.
        """
        admitted = {key: self._codec.admit(rows[key], key) for key in self.missing(rows)}
        if admitted and not self._directory.writable():
            todo = "fix its rights, or set FMIT_STORE"
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
        scanned = False
        while len(todo):
            present, shards, rows = self._catalog.index.find(packed[todo])
            if present.all():
                done = self._fill(values, packed, todo, shards, rows)
                todo, scanned = todo[~done], scanned and bool(done.all())
            elif not scanned and self._refresh():
                scanned = True
            else:
                absent = dict.fromkeys(wanted[at] for at in todo[~present].tolist())
                raise MissingKeys(list(absent), where=str(self._directory.folder))
        return values

    def keys(self) -> list[str]:
        """All keys, sorted: those flushed by any process, and those that wait here."""
        self._refresh()
        return sorted({*keys.unpack_keys(self._catalog.index.keys()), *self._waiting})

    def close(self) -> None:
        """Flush, and release all file handles."""
        try:
            self.flush()
            self._catalog.save()
        finally:
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()

    def _refresh(self) -> bool:
        """Read the folder again if shards may have come or gone; whether it was read."""
        changed = self._catalog.changed()
        if changed:
            self._catalog.scan()
        return changed

    def _fill(
        self, values: list[Any], packed: np.ndarray, todo: np.ndarray, shards: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Read what can be read, shard by shard; which of `todo` are done. A shard that fails leaves the index."""
        done = np.zeros(len(todo), bool)
        for prefix in np.unique(shards).tolist():
            here, name = np.flatnonzero(shards == prefix), self._catalog.index.name(prefix)
            try:
                read = self._reader(name).read(rows[here].tolist(), keys.split_keys(packed[todo[here]]))
            except FileNotFoundError:  # another process compacted or collected it
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

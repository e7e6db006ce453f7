"""The store: rows by key, computed once. Deleting it costs time, never a result.

Rows that were put wait in memory until `flush` publishes them as one immutable shard. No lock is needed: two writers of
the same row make two shards that say the same. A shard that is damaged is set aside and its rows count as missing.
A `Store` belongs to one thread; any number of processes may have their own on the same folder.
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
from cache.shard_directory import Shelf, note
from cache.shards import ArrayCodec, ArrayReader, Check, Damaged, Newer, RowCodec, RowReader
from schema.errors import MissingKeys, StoreError

if TYPE_CHECKING:
    import pyarrow as pa


log = logging.getLogger(__name__)

WAITING_MAX_BYTES = 32 << 20  # rows put and not flushed: then they are published without being asked
N_READERS = 64  # shards held open
USED_S = 86400.0  # a shard's time is renewed once a day when it is read: `gc` removes what nobody used


def root() -> Path:
    """Where the stores lie: `$FMIT_STORE`, else `.fmit/store`."""
    return Path(os.environ.get("FMIT_STORE") or ".fmit/store")


class Store:
    """Rows by key, in one folder; see `open`."""

    def __init__(self, folder: Path, schema: pa.Schema | None, check: Check, producer: Mapping[str, Any]) -> None:
        self._codec: Any = ArrayCodec() if schema is None else RowCodec(schema)
        self._arguments = (folder, schema, check, dict(producer))
        self._shelf = Shelf(folder / self._codec.kind, self._codec.suffix)
        self._check = check
        self._note = note(producer)
        self._catalog = Catalog(self._shelf, self._codec, check)
        self._waiting: dict[str, Any] = {}
        self._n_waiting_bytes = 0
        self._readers: OrderedDict[str, ArrayReader | RowReader] = OrderedDict()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        schema: pa.Schema | None = None,
        check: Check = "always",
        producer: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open a store, made if absent; a context manager that flushes at its end.

        Without `schema` a value is a float16 or float32 array of any shape; with an Arrow schema it is a list of row
        dicts. `check`: a row's digest on every read ("always"), a shard's digest when first read ("shard"), or none
        ("never"). `producer` names what computes the rows (JSON; `name`, `version`, `device`) in the shards written.
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
            log.warning("%s", failed)  # the error under way says more

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens its own; rows that wait here are flushed here."""
        return Store, self._arguments

    def missing(self, wanted: Iterable[str]) -> list[str]:
        """The keys that the store does not hold, in order, each once."""
        unique = list(dict.fromkeys(wanted))
        packed = keys.pack_keys(unique)
        if (
            self._catalog.changed()
        ):  # shards came, or went: a row that has gone counts as missing before it is asked for
            self._catalog.scan()
        found = self._catalog.index.find(packed)[0]
        return [key for key, here in zip(unique, found.tolist(), strict=True) if not here and key not in self._waiting]

    def put(self, rows: Mapping[str, Any]) -> None:
        """Take rows; a present key keeps its value. StoreError, and nothing taken, where a value is no value."""
        fresh = self.missing(rows)
        admitted = {key: self._codec.admit(rows[key], key) for key in fresh}
        if admitted and not self._shelf.writable():
            raise StoreError(
                "the store is read-only", where=str(self._shelf.folder), todo="mend its rights, or set FMIT_STORE"
            )
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
        name = self._shelf.publish(data)
        self._catalog.add(name, len(data), keys.pack_keys(sorted(self._waiting)))
        self._waiting, self._n_waiting_bytes = {}, 0

    def get(self, wanted: Sequence[str]) -> list[Any]:
        """The values of keys, in order; MissingKeys names those that the store does not hold (whole)."""
        values: list[Any] = [None] * len(wanted)
        packed = keys.pack_keys(wanted)
        todo = np.arange(len(values))
        waiting = [at for at, key in enumerate(wanted) if key in self._waiting] if self._waiting else []
        for at in waiting:
            values[at] = self._codec.admit(self._waiting[wanted[at]], wanted[at])
        todo = np.delete(todo, waiting)
        scanned = False
        while len(todo):
            found, shards, rows = self._catalog.index.find(packed[todo])
            if found.all():
                done = self._fill(values, packed, todo, shards, rows)
                todo, scanned = todo[~done], scanned and bool(done.all())
            elif not scanned and self._catalog.changed():
                self._catalog.scan()
                scanned = True
            else:
                lost = dict.fromkeys(wanted[at] for at in todo[~found].tolist())
                raise MissingKeys(list(lost), where=str(self._shelf.folder))
        return values

    def keys(self) -> list[str]:
        """All keys, sorted: those flushed by anyone, and those waiting here."""
        if self._catalog.changed():
            self._catalog.scan()
        return sorted({*keys.unpack_keys(self._catalog.index.keys()), *self._waiting})

    def close(self) -> None:
        """Flush, and give all file handles back."""
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
        raw = packed.tobytes()
        for prefix in np.unique(shards).tolist():
            here, name = np.flatnonzero(shards == prefix), self._catalog.index.name(prefix)
            expected = [raw[at * keys.KEY_BYTES : (at + 1) * keys.KEY_BYTES] for at in todo[here].tolist()]
            try:
                read = self._reader(name).read(rows[here].tolist(), expected)
            except FileNotFoundError:  # compacted or collected by someone else
                self._catalog.lost(name)
            except Newer as error:
                self._catalog.leave(name, error)
            except Damaged as error:
                reader = self._readers.pop(name, None)
                if reader:
                    reader.close()
                self._catalog.set_aside(name, error)
            else:
                done[here] = True
                for at, value in zip(todo[here].tolist(), read, strict=True):
                    values[at] = value
        return done

    def _reader(self, name: str) -> ArrayReader | RowReader:
        if name in self._readers:
            self._readers.move_to_end(name)
            return self._readers[name]
        path = self._shelf.path(name)
        reader = self._readers[name] = self._codec.open(path, self._check)
        with contextlib.suppress(OSError):  # read-only, or another user's
            if time.time() - path.stat().st_mtime > USED_S:
                os.utime(path)
        while len(self._readers) > N_READERS:
            self._readers.popitem(last=False)[1].close()
        return reader

"""Row shards: Parquet files in which a key holds a list of row dicts, perhaps empty, of one declared schema."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cache import keys
from cache.shards import VALUE_MAX_BYTES, Check, Damaged, check_format, check_name, damaged
from schema.errors import StoreError

ROW_GROUP = 512  # keys that are decoded together: small enough for a get of a few
NOTE = b"fmit"
_UNREADABLE = (OSError, pa.ArrowException, ValueError, KeyError, TypeError, OverflowError)


class RowCodec:
    """How lists of row dicts become shards and come back; `kind` names the schema, so schemas never mix."""

    suffix = ".parquet"
    compact_bytes = 16 << 20  # compressed: what is joined is decoded in memory

    def __init__(self, schema: pa.Schema) -> None:
        self._names = set(schema.names)
        self._value = pa.list_(_plain_type(pa.struct(list(schema))))
        key = pa.binary(keys.KEY_BYTES)
        self._table = pa.schema({"key": key, "digest": key, "value": self._value})
        self.kind = "rows-" + keys.digest_bytes(str(self._value).encode())[:12]

    @classmethod
    def of(cls, path: Path) -> RowCodec:
        """The codec of a shard that is there; FileNotFoundError when it has gone, Damaged when it is no row shard."""
        try:
            schema = pq.read_schema(path)
            check_format(_note(schema), path)
            return cls(pa.schema(list(schema.field("value").type.value_type)))
        except FileNotFoundError:
            raise
        except (*_UNREADABLE, AttributeError) as error:
            raise damaged(error, path) from None

    def admit(self, value: Any, key: str) -> list[dict[str, Any]]:
        """The rows as the schema keeps them (float32 rounded, absent fields None); StoreError when they do not fit."""
        if not isinstance(value, list | tuple) or not all(isinstance(row, Mapping) for row in value):
            raise StoreError("a value is a list of row dicts", where=f"key {key}", found=type(value).__name__)
        unknown = set().union(*value) - self._names if value else set()
        if unknown:  # Arrow would drop them in silence
            raise StoreError(
                f"fields that the schema lacks: {', '.join(sorted(map(str, unknown)))}", where=f"key {key}"
            )
        try:
            kept = pa.array([[dict(row) for row in value]], type=self._value).to_pylist()[0]
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise StoreError(f"a row does not fit the schema: {error}", where=f"key {key}") from None
        if self.size(kept) > VALUE_MAX_BYTES:
            raise StoreError(f"a value has at most {VALUE_MAX_BYTES} bytes", where=f"key {key}")
        return kept

    def size(self, value: list[dict[str, Any]]) -> int:
        """About the bytes that a value takes, before compression."""
        return len(_canonical(value)) + 2 * keys.KEY_BYTES

    def encode(self, rows: Mapping[str, list[dict[str, Any]]], note: str) -> bytes:
        """The bytes of a shard, rows in order of their keys: the same rows give the same bytes."""
        ordered = sorted(rows)
        packed = [bytes.fromhex(key) for key in ordered]
        columns = {
            "key": packed,
            "digest": [row_digest(key, rows[name]) for key, name in zip(packed, ordered, strict=True)],
            "value": [rows[name] for name in ordered],
        }
        table = pa.Table.from_pydict(columns, schema=self._table.with_metadata({NOTE: note.encode()}))
        sink = pa.BufferOutputStream()
        pq.write_table(
            table, sink, compression="zstd", version="2.6", row_group_size=ROW_GROUP, write_page_checksum=True
        )
        return sink.getvalue().to_pybytes()

    def open(self, path: Path, check: Check) -> RowReader:
        """Open a shard for reading; FileNotFoundError when it has gone, Damaged when it is no whole shard.

        The bytes are checked against the name first, unless `check` is "never": a Parquet parser is no judge of damage.
        """
        if check != "never":
            check_name(path)
        return RowReader(path, check, self._table)


class RowReader:
    """One open Parquet shard."""

    def __init__(self, path: Path, check: Check, schema: pa.Schema) -> None:
        self._path, self._check = path, check
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            self.note = _note(self._file.schema_arrow)
            same = self._file.schema_arrow.equals(schema, check_metadata=False)
        except FileNotFoundError:
            raise
        except _UNREADABLE as error:
            raise damaged(error, path) from None
        check_format(self.note, path)
        if not same:
            raise Damaged("the shard has another schema", where=path.name)
        self.n_rows = self._file.metadata.num_rows

    def keys(self) -> np.ndarray:
        """The keys in row order, [N] of 32-byte strings."""
        return self._packed(self._read(lambda: self._file.read(columns=["key"], use_threads=False)).column("key"))

    def read(self, rows: Sequence[int], expected: Sequence[bytes]) -> list[list[dict[str, Any]]]:
        """The values at `rows`, which must hold the keys `expected`; Damaged when a key or digest does not match."""
        groups: dict[int, list[int]] = defaultdict(list)
        for position, row in enumerate(rows):
            if row >= self.n_rows:
                raise Damaged(f"row {row} does not exist", where=self._path.name, found=f"{self.n_rows} rows")
            groups[row // ROW_GROUP].append(position)
        values: dict[int, list[dict[str, Any]]] = {}
        for group, positions in sorted(groups.items()):
            wanted = [rows[position] % ROW_GROUP for position in positions]
            table = self._read(lambda group=group, wanted=wanted: self._file.read_row_group(group).take(wanted))
            for position, entry in zip(positions, table.to_pylist(), strict=True):
                self._verify(entry, rows[position], expected[position])
                values[position] = entry["value"]
        return [values[position] for position in range(len(rows))]

    def close(self) -> None:
        """Give the file handle back."""
        self._file.close(force=True)

    def _verify(self, entry: Mapping[str, Any], row: int, expected: bytes) -> None:
        if entry["key"] != expected:
            raise Damaged(f"row {row} holds another key", where=self._path.name, found=str(entry["key"].hex()))
        if self._check == "always" and row_digest(expected, entry["value"]) != entry["digest"]:
            raise Damaged(f"row {row} does not match its digest", where=self._path.name)

    def _read(self, read: Any) -> pa.Table:
        try:
            return read()
        except _UNREADABLE as error:
            raise damaged(error, self._path) from None

    def _packed(self, column: pa.ChunkedArray) -> np.ndarray:
        parts = [
            np.frombuffer(chunk.buffers()[1], f"S{keys.KEY_BYTES}", len(chunk), chunk.offset * keys.KEY_BYTES)
            for chunk in column.chunks
        ]
        return np.concatenate([np.zeros(0, f"S{keys.KEY_BYTES}"), *parts])


def row_digest(key: bytes, value: list[dict[str, Any]]) -> bytes:
    """sha256 over the key and the canonical JSON of its rows."""
    return hashlib.sha256(key + _canonical(value)).digest()


def _note(schema: pa.Schema) -> str:
    return (schema.metadata or {}).get(NOTE, b"").decode()


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """A type without metadata and with Arrow's own names for list items: a schema and its shards name one kind."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _plain_type(field.type)) for field in kind])
    return pa.list_(_plain_type(kind.value_type)) if pa.types.is_list(kind) else kind


def _canonical(value: list[dict[str, Any]]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> str:
    """Types that JSON lacks but Arrow has: binary, dates, decimals."""
    return value.hex() if isinstance(value, bytes) else str(value)

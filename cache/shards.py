"""Array shards: HDF5 files that hold float16 and float32 arrays of any shape, each row with its own digest.

A table `rows` says of each row its key, digest and place; the values lie behind one another in `float16` and `float32`.

Row shards: Parquet files in which a key holds a list of row dicts, perhaps empty, of one declared schema.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cache import hdf5, keys
from schema.errors import StoreError

Check = Literal["always", "shard", "never"]
FORMAT = 1  # of shards of both kinds; raised when an older version could no longer read them
MAX_NDIM = 8
VALUE_MAX_BYTES = 64 << 20  # with the rows waiting beside it a shard stays under 128 MB
_ROW = np.dtype(
    [
        ("key", "u1", (keys.KEY_BYTES,)),
        ("digest", "u1", (keys.KEY_BYTES,)),
        ("start", "<i8"),  # first element in the dataset of this width
        ("width", "u1"),  # bytes an element: 2 float16, 4 float32
        ("ndim", "u1"),
        ("shape", "<i4", (MAX_NDIM,)),
    ]
)
_UNPACK = struct.Struct(f"<{keys.KEY_BYTES}s{keys.KEY_BYTES}sqBB{MAX_NDIM}i")
_DTYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<f2"), 4: np.dtype("<f4")}


class Damaged(StoreError):
    """A shard whose bytes are not what was published; the store sets it aside."""


class Newer(StoreError):
    """A whole shard that a later version of this program wrote; it is left alone, and its rows count as missing."""


class ArrayCodec:
    """How arrays become shards and come back."""

    kind = "arrays"
    suffix = ".h5"
    compact_bytes = 64 << 20  # what is joined is held in memory a few times over

    def admit(self, value: Any, key: str) -> np.ndarray:
        """A private, contiguous, little-endian copy; StoreError for anything but a float16 or float32 array."""
        if not isinstance(value, np.ndarray) or value.dtype not in (np.float16, np.float32) or value.ndim > MAX_NDIM:
            found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            raise StoreError(
                f"a value is a float16 or float32 numpy array of at most {MAX_NDIM} axes",
                where=f"key {key}",
                found=found,
            )
        if value.nbytes > VALUE_MAX_BYTES:
            raise StoreError(
                f"a value has at most {VALUE_MAX_BYTES} bytes", where=f"key {key}", found=str(value.nbytes)
            )
        return np.array(value, dtype=_DTYPES[value.dtype.itemsize], order="C", copy=True)

    def size(self, value: np.ndarray) -> int:
        """Bytes that a value takes in a shard."""
        return value.nbytes + _ROW.itemsize

    def encode(self, rows: Mapping[str, np.ndarray], note: str) -> bytes:
        """The bytes of a shard, rows in order of their keys: the same rows give the same bytes."""
        ordered = sorted(rows)
        table = np.zeros(len(ordered), _ROW)
        flat: dict[int, list[np.ndarray]] = {2: [], 4: []}
        ends = {2: 0, 4: 0}
        table["key"] = keys.pack_keys(ordered).view("u1").reshape(-1, keys.KEY_BYTES)
        for row, key in zip(table, ordered, strict=True):
            value, width = rows[key], rows[key].itemsize
            row["digest"] = np.frombuffer(row_digest(bytes.fromhex(key), value), "u1")
            row["start"], row["width"], row["ndim"] = ends[width], width, value.ndim
            row["shape"][: value.ndim] = value.shape
            flat[width].append(value.reshape(-1))
            ends[width] += value.size
        values = {str(_DTYPES[width]): np.concatenate([np.zeros(0, _DTYPES[width]), *flat[width]]) for width in flat}
        return hdf5.image({"rows": table, **values}, note)

    def open(self, path: Path, check: Check) -> ArrayReader:
        """Open a shard for reading; FileNotFoundError when it has gone, Damaged when it is no whole shard."""
        if check == "shard":
            check_name(path)
        return ArrayReader(path, check)


class ArrayReader:
    """One open shard. Reads by position, so a file cut short is an error, not a signal, and forks share nothing."""

    def __init__(self, path: Path, check: Check) -> None:
        self._handle = -1
        self._path, self._check = path, check
        try:
            self.note, self._places = hdf5.places(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise damaged(error, path) from None
        check_format(self.note, path)
        table = self._places.get("rows")
        if not table or table.dtype != _ROW or len(table.shape) != 1 or {"float16", "float32"} - set(self._places):
            raise Damaged("the shard has another layout", where=path.name)
        self.n_rows = table.shape[0]
        self._handle = os.open(path, os.O_RDONLY)

    def keys(self) -> np.ndarray:
        """The keys in row order, [N] of 32-byte strings."""
        table = self._places["rows"]
        packed = self._bytes(table.offset, table.n_bytes).view(_ROW)["key"]
        return np.ascontiguousarray(packed).view(f"S{keys.KEY_BYTES}").reshape(-1)

    def read(self, rows: Sequence[int], expected: Sequence[bytes]) -> list[np.ndarray]:
        """The values at `rows`, which must hold the keys `expected`; Damaged when a key or digest does not match."""
        return [self._value(row, key) for row, key in zip(rows, expected, strict=True)]

    def close(self) -> None:
        """Give the file handle back."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _value(self, row: int, expected: bytes) -> np.ndarray:
        if row >= self.n_rows:
            raise Damaged(f"row {row} does not exist", where=self._path.name, found=f"{self.n_rows} rows")
        entry = self._bytes(self._places["rows"].offset + row * _ROW.itemsize, _ROW.itemsize)
        key, digest, start, width, ndim, *shape = _UNPACK.unpack(entry.data)
        if key != expected:
            raise Damaged(f"row {row} holds another key", where=self._path.name, found=key.hex())
        if width not in _DTYPES or ndim > MAX_NDIM or min(shape[:ndim], default=0) < 0:
            raise Damaged(f"row {row} has no possible dtype and shape", where=self._path.name)
        place, count = self._places[str(_DTYPES[width])], math.prod(shape[:ndim])
        if not 0 <= start <= start + count <= place.shape[0]:
            raise Damaged(f"row {row} lies outside the shard", where=self._path.name)
        value = np.empty(shape[:ndim], _DTYPES[width])
        self._into(value, place.offset + start * width)
        if self._check == "always" and row_digest(expected, value) != digest:
            raise Damaged(f"row {row} does not match its digest", where=self._path.name)
        return value

    def _bytes(self, offset: int, n_bytes: int) -> np.ndarray:
        data = np.empty(n_bytes, np.uint8)
        self._into(data, offset)
        return data

    def _into(self, array: np.ndarray, offset: int) -> None:
        view, done = array.reshape(-1).view(np.uint8), 0
        while done < view.size:  # a read stops short at 2 GB, and at the end of a file that was cut
            try:
                n_read = os.preadv(self._handle, [view[done:].data], offset + done)
            except OSError as error:
                raise damaged(error, self._path) from None
            if not n_read:
                raise Damaged("the shard ends too early", where=self._path.name)
            done += n_read


def row_digest(key: bytes, value: np.ndarray) -> bytes:
    """sha256 over key, dtype, shape and bytes of one row."""
    digest = hashlib.sha256(key)
    digest.update(f"{value.dtype}{list(value.shape)}\n".encode())
    digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.digest()


def check_name(path: Path) -> None:
    """Damaged unless the file's name is the sha256 of its bytes; FileNotFoundError when it has gone."""
    try:
        found = keys.digest_file(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise damaged(error, path) from None
    if found != path.stem:
        raise Damaged("the shard's bytes do not match its name", where=path.name, found=f"sha256 {found}")


def check_format(note: str, path: Path) -> None:
    """Newer where a shard's note tells of a later format than ours; one that tells nothing is for others to judge."""
    try:
        found = int(json.loads(note)["format"])
    except (ValueError, KeyError, TypeError):
        return
    if found > FORMAT:
        raise Newer(
            f"a shard of format {found}, this version reads {FORMAT}",
            where=str(path),
            todo="use the version of the program that the others use",
        )


def damaged(error: Exception, path: Path) -> StoreError:
    """What a failed read means: a file that this user may not read is no damage."""
    if isinstance(error, PermissionError):
        return StoreError(
            "a shard cannot be read: permission denied", where=str(path), todo="give the group read access to the store"
        )
    return Damaged(f"the shard cannot be read: {error}", where=path.name)


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
            "digest": [rows_digest(key, rows[name]) for key, name in zip(packed, ordered, strict=True)],
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
        if self._check == "always" and rows_digest(expected, entry["value"]) != entry["digest"]:
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


def rows_digest(key: bytes, value: list[dict[str, Any]]) -> bytes:
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

"""Shards: immutable files that hold rows by key, each row with its own digest.

Array shards are HDF5 files of float16 and float32 arrays of any shape: a table `rows` gives each row's key, digest and
extent; the values lie one after another in the datasets `float16` and `float32`.

Row shards are Parquet files in which a key holds a list of row dicts, perhaps empty, of one declared schema.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import struct
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cache import hdf5, keys
from schema.errors import StoreError

Check = Literal["always", "shard", "never"]
Entry = tuple[bytes, bytes, Any]  # key, digest, value
FORMAT = 1  # of shards of both kinds; raised when an older version could no longer read them
VALUE_MAX_BYTES = 64 << 20  # with the rows that wait beside it a shard stays under 128 MB


class Damaged(StoreError):
    """A shard whose bytes are not what was published; the store moves it to quarantine."""


class Newer(StoreError):
    """An intact shard that a later version of this program wrote; it stays, and its rows count as missing."""


class Reader(ABC):
    """One open shard."""

    whole_file: tuple[Check, ...] = ("shard",)  # which checks include the digest of the whole file
    codec: Any  # of this shard's rows
    note: str  # JSON: format, producer, versions
    n_rows: int

    def __init__(self, path: Path, check: Check, codec: Codec | None = None) -> None:
        self._path, self._check, self._expected = path, check, codec
        if check in self.whole_file:
            check_name(path)
        with _reading(path):
            self._open()

    def keys(self) -> np.ndarray:
        """The keys in row order, [N] of 32-byte strings."""
        with _reading(self._path):
            return self._keys()

    def read(self, rows: Sequence[int], expected: Sequence[bytes]) -> list[Any]:
        """The values at `rows`, which must hold the keys `expected`; Damaged when a key or digest does not match."""
        if max(rows, default=-1) >= self.n_rows:
            raise Damaged(f"row {max(rows)} does not exist", where=self._path.name, found=f"{self.n_rows} rows")
        values = []
        with _reading(self._path):
            for row, key, (found, digest, value) in zip(rows, expected, self._entries(rows), strict=True):
                if found != key:
                    raise Damaged(f"row {row} holds another key", where=self._path.name, found=found.hex())
                if self._check == "always" and row_digest(key, value) != digest:
                    raise Damaged(f"row {row} does not match its digest", where=self._path.name)
                values.append(value)
        return values

    def load(self) -> dict[str, Any]:
        """All rows by key."""
        packed = self.keys()
        return dict(zip(keys.unpack_keys(packed), self.read(range(len(packed)), keys.split_keys(packed)), strict=True))

    @abstractmethod
    def close(self) -> None:
        """Release the file handle."""

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _keys(self) -> np.ndarray: ...

    @abstractmethod
    def _entries(self, rows: Sequence[int]) -> Iterator[Entry]: ...


def open_shard(path: Path, check: Check = "never", codec: Codec | None = None) -> Reader:
    """Open a shard, of the schema of `codec` if given, else of the one that it names itself.

    FileNotFoundError if it is gone, Damaged if it is not a whole shard, Newer.
    """
    return (ArrayReader if path.suffix == ArrayCodec.suffix else RowReader)(path, check, codec)


def row_digest(key: bytes, value: Any) -> bytes:
    """sha256 over a row's key and its content: an array's dtype, shape and bytes; the canonical JSON of row dicts."""
    digest = hashlib.sha256(key)
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    else:
        digest.update(_canonical(value))
    return digest.digest()


def _sorted_entries(rows: Mapping[str, Any]) -> Iterator[Entry]:
    for name in sorted(rows):
        key = bytes.fromhex(name)
        yield key, row_digest(key, rows[name]), rows[name]


def check_name(path: Path) -> None:
    """Damaged unless the file's name is the sha256 of its bytes; FileNotFoundError when it is gone."""
    with _reading(path):
        digest = keys.digest_file(path)
    if digest != path.stem:
        raise Damaged("the shard's bytes do not match its name", where=path.name, found=f"sha256 {digest}")


def _check_format(note: str, path: Path) -> None:
    """Newer if a shard's note gives a later format than ours; a note without a format passes."""
    try:
        version = int(json.loads(note)["format"])
    except (ValueError, KeyError, TypeError):
        return
    if version > FORMAT:
        what = f"a shard of format {version}, this version reads {FORMAT}"
        raise Newer(what, where=str(path), todo="use the version of the program that the others use")


def _check_size(n_bytes: int, key: str) -> None:
    if n_bytes > VALUE_MAX_BYTES:
        raise StoreError(f"a value has at most {VALUE_MAX_BYTES} bytes", where=f"key {key}", found=str(n_bytes))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what libraries raise on a bad file into Damaged; a file that this user may not read is not damaged."""
    try:
        yield
    except (FileNotFoundError, StoreError):
        raise
    except PermissionError:
        what, todo = "a shard cannot be read: permission denied", "give the group read access to the store"
        raise StoreError(what, where=str(path), todo=todo) from None
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, OverflowError, AttributeError) as error:
        raise Damaged(f"the shard cannot be read: {error}", where=path.name) from None


MAX_NDIM = 8
_ROW = np.dtype(
    [
        ("key", "u1", (keys.KEY_BYTES,)),
        ("digest", "u1", (keys.KEY_BYTES,)),
        ("start", "<i8"),  # first element in the dataset of this width
        ("width", "u1"),  # bytes per element: 2 float16, 4 float32
        ("ndim", "u1"),
        ("shape", "<i4", (MAX_NDIM,)),
    ]
)
_UNPACK = struct.Struct(f"<{keys.KEY_BYTES}s{keys.KEY_BYTES}sqBB{MAX_NDIM}i")
_DTYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<f2"), 4: np.dtype("<f4")}


class ArrayCodec:
    """How arrays become shards. `kind` names the folder of such shards; `compact_bytes`: size of joined ones."""

    kind = "arrays"
    suffix = ".h5"
    compact_bytes = 64 << 20  # they are held in memory a few times over

    def admit(self, value: Any, key: str) -> np.ndarray:
        """A private little-endian copy of an array; StoreError for another value, or one that is too large."""
        if not isinstance(value, np.ndarray) or value.dtype not in (np.float16, np.float32) or value.ndim > MAX_NDIM:
            found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            what = f"a value is a float16 or float32 numpy array of at most {MAX_NDIM} axes"
            raise StoreError(what, where=f"key {key}", found=found)
        _check_size(value.nbytes, key)
        return np.array(value, dtype=_DTYPES[value.dtype.itemsize], order="C", copy=True)

    def size(self, value: np.ndarray) -> int:
        """Bytes that an admitted value takes in a shard, before compression."""
        return value.nbytes + _ROW.itemsize

    def encode(self, rows: Mapping[str, np.ndarray], note: str) -> bytes:
        """The bytes of a shard of admitted values, in order of their keys: equal rows give equal bytes."""
        table = np.zeros(len(rows), _ROW)
        values: dict[int, list[np.ndarray]] = {2: [], 4: []}
        ends = {2: 0, 4: 0}
        for row, (key, digest, value) in zip(table, _sorted_entries(rows), strict=True):
            width = value.itemsize
            row["key"], row["digest"] = np.frombuffer(key, "u1"), np.frombuffer(digest, "u1")
            row["start"], row["width"], row["ndim"] = ends[width], width, value.ndim
            row["shape"][: value.ndim] = value.shape
            values[width].append(value.reshape(-1))
            ends[width] += value.size
        flat = {str(dtype): np.concatenate([np.zeros(0, dtype), *values[width]]) for width, dtype in _DTYPES.items()}
        return hdf5.encode({"rows": table, **flat}, note)


class ArrayReader(Reader):
    """Reads by position: a file that was cut short is an error, not a signal, and forked processes share nothing."""

    codec = ArrayCodec()
    _handle = -1

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _open(self) -> None:
        self.note, self._extents = hdf5.extents(self._path)
        _check_format(self.note, self._path)
        table = self._extents.get("rows")
        if not table or table.dtype != _ROW or len(table.shape) != 1 or {"float16", "float32"} - set(self._extents):
            raise Damaged("the shard has another layout", where=self._path.name)
        self._table, self.n_rows = table, table.shape[0]
        self._handle = os.open(self._path, os.O_RDONLY)

    def _keys(self) -> np.ndarray:
        packed = self._bytes(self._table.offset, self._table.n_bytes).view(_ROW)["key"]
        return np.ascontiguousarray(packed).view(keys.PACKED).reshape(-1)

    def _entries(self, rows: Sequence[int]) -> Iterator[Entry]:
        for row in rows:
            entry = self._bytes(self._table.offset + row * _ROW.itemsize, _ROW.itemsize)
            key, digest, start, width, ndim, *shape = _UNPACK.unpack(entry.data)
            if width not in _DTYPES or ndim > MAX_NDIM or min(shape[:ndim], default=0) < 0:
                raise Damaged(f"row {row} has no possible dtype and shape", where=self._path.name)
            extent, count = self._extents[str(_DTYPES[width])], math.prod(shape[:ndim])
            if not 0 <= start <= start + count <= extent.shape[0]:
                raise Damaged(f"row {row} lies outside the shard", where=self._path.name)
            value = np.empty(shape[:ndim], _DTYPES[width])
            self._read_into(value, extent.offset + start * width)
            yield key, digest, value

    def _bytes(self, offset: int, n_bytes: int) -> np.ndarray:
        data = np.empty(n_bytes, np.uint8)
        self._read_into(data, offset)
        return data

    def _read_into(self, array: np.ndarray, offset: int) -> None:
        view, done = array.reshape(-1).view(np.uint8), 0
        while done < view.size:  # a read stops short at 2 GB, and at the end of a file that was cut
            n_read = os.preadv(self._handle, [view[done:].data], offset + done)
            if not n_read:
                raise Damaged("the shard ends too early", where=self._path.name)
            done += n_read


ROW_GROUP = 512  # keys that are decoded together: small enough for a get of a few
NOTE = b"fmit"


class RowCodec:
    """How lists of row dicts of one Arrow schema become shards; `kind` contains a digest of the schema."""

    suffix = ".parquet"
    compact_bytes = 16 << 20  # compressed

    def __init__(self, schema: pa.Schema) -> None:
        self._names = set(schema.names)
        self._value = pa.list_(_plain_type(pa.struct(list(schema))))
        key = pa.binary(keys.KEY_BYTES)
        self.schema = pa.schema({"key": key, "digest": key, "value": self._value})
        self.kind = "rows-" + keys.digest_bytes(str(self._value).encode())[:12]

    def admit(self, value: Any, key: str) -> list[dict[str, Any]]:
        """The rows as the schema keeps them: float32 rounded, absent fields None."""
        if not isinstance(value, list | tuple) or not all(isinstance(row, Mapping) for row in value):
            raise StoreError("a value is a list of row dicts", where=f"key {key}", found=type(value).__name__)
        unknown = set().union(*value) - self._names if value else set()
        if unknown:  # Arrow would drop them silently
            names = ", ".join(sorted(map(str, unknown)))
            raise StoreError(f"fields that the schema lacks: {names}", where=f"key {key}")
        try:
            rows = pa.array([[dict(row) for row in value]], type=self._value).to_pylist()[0]
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise StoreError(f"a row does not fit the schema: {error}", where=f"key {key}") from None
        _check_size(self.size(rows), key)
        return rows

    def size(self, value: list[dict[str, Any]]) -> int:
        return len(_canonical(value)) + 2 * keys.KEY_BYTES

    def encode(self, rows: Mapping[str, list[dict[str, Any]]], note: str) -> bytes:
        entries = [dict(zip(self.schema.names, entry, strict=True)) for entry in _sorted_entries(rows)]
        table = pa.Table.from_pylist(entries, schema=self.schema.with_metadata({NOTE: note.encode()}))
        sink = pa.BufferOutputStream()
        pq.write_table(
            table, sink, compression="zstd", version="2.6", row_group_size=ROW_GROUP, write_page_checksum=True
        )
        return sink.getvalue().to_pybytes()


class RowReader(Reader):
    """Reads Parquet. The file's digest is checked first unless `check` is "never": a parser may miss damage."""

    whole_file = ("shard", "always")

    def close(self) -> None:
        self._file.close(force=True)

    def _open(self) -> None:
        self._file = pq.ParquetFile(self._path, page_checksum_verification=True)
        schema = self._file.schema_arrow
        self.note = (schema.metadata or {}).get(NOTE, b"").decode()
        _check_format(self.note, self._path)
        self.codec = self._expected or RowCodec(pa.schema(list(schema.field("value").type.value_type)))
        if not schema.equals(self.codec.schema, check_metadata=False):
            raise Damaged("the shard has another schema", where=self._path.name)
        self.n_rows = self._file.metadata.num_rows

    def _keys(self) -> np.ndarray:
        column = self._file.read(columns=["key"], use_threads=False).column("key")
        return np.array(column.to_pylist(), keys.PACKED)

    def _entries(self, rows: Sequence[int]) -> Iterator[Entry]:
        groups: dict[int, list[int]] = defaultdict(list)
        for position, row in enumerate(rows):
            groups[row // ROW_GROUP].append(position)
        entries: dict[int, Entry] = {}
        for group, positions in sorted(groups.items()):
            wanted = [rows[position] % ROW_GROUP for position in positions]
            table = self._file.read_row_group(group).take(wanted)
            for position, entry in zip(positions, table.to_pylist(), strict=True):
                entries[position] = (entry["key"], entry["digest"], entry["value"])
        return (entries[position] for position in range(len(rows)))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """A type without metadata and with Arrow's own names for list items, so that a schema and its shards agree."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _plain_type(field.type)) for field in kind])
    return pa.list_(_plain_type(kind.value_type)) if pa.types.is_list(kind) else kind


def _canonical(value: list[dict[str, Any]]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_json_value).encode()


def _json_value(value: Any) -> str:
    """Types that JSON lacks but Arrow has: binary, dates, decimals."""
    return value.hex() if isinstance(value, bytes) else str(value)


Codec = ArrayCodec | RowCodec

"""Shards: immutable files that hold rows by key, each row with its own digest.

Array shards are HDF5 files of float16 and float32 arrays of any shape: a table `rows` gives each row's key, digest and
extent; the values lie one after another in the datasets `float16` and `float32`. Row shards are Parquet files in which
a key holds a list of row dicts, perhaps empty, of one declared schema.
"""

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
TOO_LARGE = f"a value has at most {VALUE_MAX_BYTES} bytes"


class Damaged(StoreError):
    """A shard whose bytes are not what was published; the store moves it to quarantine."""


class Newer(StoreError):
    """An intact shard that a newer version of this program wrote; it stays, and its rows count as missing."""


class Reader(ABC):
    codec: Any  # of this shard's rows
    note: str  # JSON: format, producer, versions
    n_rows: int

    def __init__(self, path: Path, check: Check) -> None:
        self._path, self._check = path, check

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def keys(self) -> np.ndarray:
        """The keys in row order, [N] of 32-byte strings."""

    @abstractmethod
    def _entries(self, rows: Sequence[int]) -> Iterator[Entry]: ...

    def read(self, rows: Sequence[int], expected: Sequence[bytes]) -> list[Any]:
        """The values at `rows`, which must hold the keys `expected`; Damaged when a key or digest does not match."""
        if max(rows, default=-1) >= self.n_rows:
            raise Damaged(f"row {max(rows)} does not exist", where=self._path.name, found=f"{self.n_rows} rows")
        values = []
        with _reading(self._path):
            for row, key, (found, digest, value) in zip(rows, expected, self._entries(rows), strict=True):
                if found != key:
                    raise Damaged(f"row {row} has a different key", where=self._path.name, found=found.hex())
                if self._check == "always" and row_digest(key, value) != digest:
                    raise Damaged(f"row {row} does not match its digest", where=self._path.name)
                values.append(value)
        return values


def open_shard(path: Path, check: Check = "never", codec: "Codec | None" = None) -> Reader:
    """Open a shard, of the schema of `codec` if given, else of its own; FileNotFoundError, Damaged or Newer."""
    is_array = path.suffix == ArrayCodec.suffix
    if check == "shard" or (check == "always" and not is_array):  # a Parquet parser may miss damage
        check_name(path)
    with _reading(path):
        return ArrayReader(path, check) if is_array else RowReader(path, check, codec)


def row_digest(key: bytes, value: Any) -> bytes:
    """sha256 over a row's key and an array's dtype, shape and bytes, or the canonical JSON of row dicts."""
    digest = hashlib.sha256(key)
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    else:
        digest.update(_canonical(value))
    return digest.digest()


def check_name(path: Path) -> None:
    """Damaged unless the file's name is the sha256 of its bytes; FileNotFoundError when it is gone."""
    with _reading(path):
        digest = keys.digest_file(path)
    if digest != path.stem:
        raise Damaged("the shard's bytes do not match its name", where=path.name, found=f"sha256 {digest}")


def _check_format(note: str, path: Path) -> None:
    """Newer if a shard's note gives a later format than ours; a note without a format passes."""
    version = 0
    with contextlib.suppress(ValueError, KeyError, TypeError):
        version = int(json.loads(note)["format"])
    if version > FORMAT:
        what = f"the shard has format {version}, but this version reads {FORMAT}"
        raise Newer(what, where=str(path), todo="install the version of fmit that wrote it")


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
_SHA256, _SHAPE = ("u1", (keys.KEY_BYTES,)), ("<i4", (MAX_NDIM,))
_FIELDS = {"key": _SHA256, "digest": _SHA256, "start": "<i8", "width": "u1", "ndim": "u1", "shape": _SHAPE}
# start: first element in the dataset of this width; width: bytes per element, 2 float16, 4 float32
_ROW = np.dtype({"names": list(_FIELDS), "formats": list(_FIELDS.values())})
_UNPACK = struct.Struct(f"<{keys.KEY_BYTES}s{keys.KEY_BYTES}sqBB{MAX_NDIM}i")
_DTYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<f2"), 4: np.dtype("<f4")}


class ArrayCodec:
    """How arrays become shards, which lie in the folder `kind`."""

    kind, suffix = "arrays", ".h5"
    compact_bytes = 64 << 20  # size of joined shards, which are in memory a few times over

    def admit(self, value: Any, key: str) -> np.ndarray:
        """A little-endian copy of an array; StoreError for another value, or one that is too large."""
        if not isinstance(value, np.ndarray) or value.dtype not in (np.float16, np.float32) or value.ndim > MAX_NDIM:
            found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            what = f"a value must be a float16 or float32 numpy array of at most {MAX_NDIM} axes"
            raise StoreError(what, where=f"key {key}", found=found)
        if value.nbytes > VALUE_MAX_BYTES:
            raise StoreError(TOO_LARGE, where=f"key {key}", found=str(value.nbytes))
        return np.array(value, dtype=_DTYPES[value.dtype.itemsize], order="C", copy=True)

    def size(self, value: np.ndarray) -> int:
        return value.nbytes + _ROW.itemsize

    def encode(self, rows: Mapping[str, np.ndarray], note: str) -> bytes:
        """The bytes of a shard of admitted values, sorted by key: equal rows give equal bytes."""
        table = np.zeros(len(rows), _ROW)
        values: dict[int, list[np.ndarray]] = {2: [], 4: []}
        ends = {2: 0, 4: 0}
        for row, (name, value) in zip(table, sorted(rows.items()), strict=True):
            key, width = bytes.fromhex(name), value.itemsize
            row["key"], row["digest"] = np.frombuffer(key, "u1"), np.frombuffer(row_digest(key, value), "u1")
            row["start"], row["width"], row["ndim"] = ends[width], width, value.ndim
            row["shape"][: value.ndim] = value.shape
            values[width].append(value.reshape(-1))
            ends[width] += value.size
        flat = {str(dtype): np.concatenate([np.zeros(0, dtype), *values[width]]) for width, dtype in _DTYPES.items()}
        return hdf5.encode({"rows": table, **flat}, note)


class ArrayReader(Reader):
    """Reads by position: a truncated file is an error, not a signal, and forked processes share nothing."""

    codec = ArrayCodec()

    def __init__(self, path: Path, check: Check) -> None:
        super().__init__(path, check)
        self.note, self._extents = hdf5.extents(path)
        _check_format(self.note, path)
        table = self._extents.get("rows")
        if not table or table.dtype != _ROW or len(table.shape) != 1 or {"float16", "float32"} - set(self._extents):
            raise Damaged("the shard has a different layout", where=self._path.name)
        self._table, self.n_rows = table, table.shape[0]
        self._handle = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        os.close(self._handle)

    def keys(self) -> np.ndarray:
        with _reading(self._path):
            packed = self._read_into(np.empty(self.n_rows, _ROW), self._table.offset)["key"]
        return np.ascontiguousarray(packed).view(keys.PACKED).reshape(-1)

    def _entries(self, rows: Sequence[int]) -> Iterator[Entry]:
        entry = np.empty(_ROW.itemsize, np.uint8)
        for row in rows:
            self._read_into(entry, self._table.offset + row * _ROW.itemsize)
            key, digest, start, width, ndim, *shape = _UNPACK.unpack(entry.data)
            if width not in _DTYPES or ndim > MAX_NDIM or min(shape[:ndim], default=0) < 0:
                raise Damaged(f"row {row} has an invalid dtype or shape", where=self._path.name)
            extent, count = self._extents[str(_DTYPES[width])], math.prod(shape[:ndim])
            if not 0 <= start <= start + count <= extent.shape[0]:
                raise Damaged(f"row {row} lies outside the shard", where=self._path.name)
            yield key, digest, self._read_into(np.empty(shape[:ndim], _DTYPES[width]), extent.offset + start * width)

    def _read_into(self, array: np.ndarray, offset: int) -> np.ndarray:
        view, done = array.reshape(-1).view(np.uint8), 0
        while done < view.size:  # a read stops short at 2 GB, and at the end of a truncated file
            n_read = os.preadv(self._handle, [view[done:].data], offset + done)
            if not n_read:
                raise Damaged("the shard ends too early", where=self._path.name)
            done += n_read
        return array


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
            raise StoreError("a value must be a list of row dicts", where=f"key {key}", found=type(value).__name__)
        unknown = set().union(*value) - self._names if value else set()
        if unknown:  # Arrow would drop them silently
            names = ", ".join(sorted(map(str, unknown)))
            raise StoreError(f"fields that are not in the schema: {names}", where=f"key {key}")
        try:
            rows = pa.array([[dict(row) for row in value]], type=self._value).to_pylist()[0]
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise StoreError(f"a row does not fit the schema: {error}", where=f"key {key}") from None
        if (n_bytes := self.size(rows)) > VALUE_MAX_BYTES:
            raise StoreError(TOO_LARGE, where=f"key {key}", found=str(n_bytes))
        return rows

    def size(self, value: list[dict[str, Any]]) -> int:
        return len(_canonical(value)) + 2 * keys.KEY_BYTES

    def encode(self, rows: Mapping[str, list[dict[str, Any]]], note: str) -> bytes:
        packed = [(bytes.fromhex(name), value) for name, value in sorted(rows.items())]
        entries = [{"key": key, "digest": row_digest(key, value), "value": value} for key, value in packed]
        table = pa.Table.from_pylist(entries, schema=self.schema.with_metadata({NOTE: note.encode()}))
        options = {"compression": "zstd", "version": "2.6", "row_group_size": ROW_GROUP, "write_page_checksum": True}
        stream = pa.BufferOutputStream()
        pq.write_table(table, stream, **options)
        return stream.getvalue().to_pybytes()


class RowReader(Reader):
    def __init__(self, path: Path, check: Check, codec: "Codec | None") -> None:
        super().__init__(path, check)
        self._file = pq.ParquetFile(path, page_checksum_verification=True)
        schema = self._file.schema_arrow
        self.note = (schema.metadata or {}).get(NOTE, b"").decode()
        _check_format(self.note, path)
        self.codec = codec or RowCodec(pa.schema(list(schema.field("value").type.value_type)))
        if not schema.equals(self.codec.schema, check_metadata=False):
            raise Damaged("the shard has a different schema", where=self._path.name)
        self.n_rows = self._file.metadata.num_rows

    def close(self) -> None:
        self._file.close(force=True)

    def keys(self) -> np.ndarray:
        with _reading(self._path):
            column = self._file.read(columns=["key"], use_threads=False).column("key")
        return np.array(column.to_pylist(), keys.PACKED)

    def _entries(self, rows: Sequence[int]) -> Iterator[Entry]:
        groups: dict[int, list[int]] = defaultdict(list)
        for position, row in enumerate(rows):
            groups[row // ROW_GROUP].append(position)
        entries: dict[int, Entry] = {}
        for group, positions in groups.items():
            table = self._file.read_row_group(group).take([rows[position] % ROW_GROUP for position in positions])
            for position, entry in zip(positions, table.to_pylist(), strict=True):
                entries[position] = (entry["key"], entry["digest"], entry["value"])
        return (entries[position] for position in range(len(rows)))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """A type without metadata and with Arrow's own names for list items, so that a schema and its shards agree."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _plain_type(field.type)) for field in kind])
    return pa.list_(_plain_type(kind.value_type)) if pa.types.is_list(kind) else kind


def _canonical(value: list[dict[str, Any]]) -> bytes:
    def as_text(inner: Any) -> str:  # types that JSON lacks but Arrow has: binary, dates, decimals
        return inner.hex() if isinstance(inner, bytes) else str(inner)

    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=as_text).encode()


Codec = ArrayCodec | RowCodec

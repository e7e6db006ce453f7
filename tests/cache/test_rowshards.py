"""Row shards: lists of dicts in every Arrow type that a stage might use, and nothing that was not put."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache import keys
from cache.shards import ROW_GROUP, Damaged, RowCodec, open_shard, row_digest
from schema.errors import StoreError
from tests.cache.rows import SCHEMA, key_of, rows_of

WIDE = pa.schema(
    {
        "flag": pa.bool_(),
        "raw": pa.binary(),
        "day": pa.date32(),
        "price": pa.decimal128(9, 2),
        "words": pa.list_(pa.string()),
        "box": pa.struct({"x": pa.int64(), "y": pa.float64()}),
        "half": pa.float16(),
    }
)
ROW = {
    "flag": True,
    "raw": b"\0\xff",
    "day": datetime.date(2020, 1, 2),
    "price": decimal.Decimal("1.50"),
    "words": ["a", None, ""],
    "box": {"x": -(2**60), "y": 1e-300},
    "half": np.float16(0.1),
}


def publish(folder: Path, codec: RowCodec, rows: dict[str, Any], note: str = "{}") -> Path:
    data = codec.encode({key: codec.admit(value, key) for key, value in rows.items()}, note)
    path = folder / f"{keys.digest_bytes(data)}.parquet"
    path.write_bytes(data)
    return path


def test_every_type_comes_back_with_its_digest(tmp_path: Path) -> None:
    codec = RowCodec(WIDE)
    rows = {key_of(1): [ROW, {}, {"words": []}], key_of(2): []}
    path = publish(tmp_path, codec, rows)
    reader = open_shard(path, "always")
    names = keys.unpack_keys(reader.keys())
    found = dict(zip(names, reader.read([0, 1], [bytes.fromhex(key) for key in names]), strict=True))
    assert found == {key: codec.admit(value, key) for key, value in rows.items()}
    assert found[key_of(1)][0] == ROW | {"half": float(np.float16(0.1))}
    assert reader.codec.kind == codec.kind


def test_many_row_groups_in_any_order(tmp_path: Path) -> None:
    codec, n = RowCodec(SCHEMA), 2 * ROW_GROUP + 100
    rows = {key_of(at): rows_of(key_of(at)) for at in range(n)}
    path = publish(tmp_path, codec, rows)
    reader, names = open_shard(path, "always", codec), sorted(rows)
    order = np.random.default_rng(0).permutation(n)[:300].tolist()
    order += [3, 3]
    found = reader.read(order, [bytes.fromhex(names[at]) for at in order])
    assert found == [rows[names[at]] for at in order]
    assert pq.ParquetFile(path).num_row_groups == 3


def test_order_of_putting_does_not_matter() -> None:
    codec = RowCodec(SCHEMA)
    rows = {key_of(at): codec.admit(rows_of(key_of(at)), "") for at in range(9)}
    assert codec.encode(rows, "{}") == codec.encode(dict(reversed(rows.items())), "{}")


def test_the_kind_names_the_schema() -> None:
    same = [SCHEMA, SCHEMA.with_metadata({"a": "b"}), pa.schema([f.with_metadata({"c": "d"}) for f in SCHEMA])]
    assert len({RowCodec(schema).kind for schema in same}) == 1
    assert RowCodec(pa.schema({"start": pa.int64()})).kind != RowCodec(SCHEMA).kind


def test_a_row_that_lies_about_itself_is_found(tmp_path: Path) -> None:
    """Written with a right file name and a wrong digest, as a writer with bad memory would."""
    codec = RowCodec(SCHEMA)
    path = publish(tmp_path, codec, {key_of(1): [{"start": 1}]})
    table = pq.read_table(path)
    other = [[{"start": 2, "text": None, "score": None}]]
    wrong = table.set_column(2, table.schema.field(2), pa.array(other, table.schema.field(2).type))
    pq.write_table(wrong, tmp_path / "wrong.parquet")
    key = bytes.fromhex(key_of(1))
    reader = open_shard(tmp_path / "wrong.parquet", "never")
    assert reader.read([0], [key])[0][0]["start"] == 2
    bad = tmp_path / f"{keys.digest_file(tmp_path / 'wrong.parquet')}.parquet"
    (tmp_path / "wrong.parquet").rename(bad)
    with pytest.raises(Damaged, match="row 0 does not match its digest"):
        open_shard(bad, "always", codec).read([0], [key])
    with pytest.raises(Damaged, match="row 0 has a different key"):
        open_shard(bad, "never", codec).read([0], [bytes(32)])
    with pytest.raises(Damaged, match="row 1 does not exist"):
        open_shard(bad, "never", codec).read([1], [key])
    with pytest.raises(Damaged, match="the shard has a different schema"):
        open_shard(bad, "always", RowCodec(WIDE))


def test_damage_anywhere_is_seen_before_a_byte_is_parsed(tmp_path: Path) -> None:
    codec = RowCodec(SCHEMA)
    path = publish(tmp_path, codec, {key_of(1): [{"start": 1}]})
    data = path.read_bytes()
    at = data.rindex(b"parquet-cpp")  # who wrote the file: no reader's row depends on it
    path.write_bytes(data[:at] + b"P" + data[at + 1 :])
    for check in ("always", "shard"):
        with pytest.raises(Damaged, match="bytes do not match its name"):
            open_shard(path, check, codec)  # type: ignore[arg-type]
    assert open_shard(path, "never", codec).n_rows == 1


def test_a_digest_covers_key_and_content() -> None:
    rows = [{"a": 1, "b": None}]
    variants: list[list[dict[str, Any]]] = [
        rows,
        [],
        [{"a": 1, "b": 0}],
        [{"a": 1.0, "b": None}],
        rows * 2,
        [{"a": "1", "b": None}],
    ]
    digests = {row_digest(bytes(32), value) for value in variants} | {row_digest(b"\1" * 32, rows)}
    assert len(digests) == 7
    assert row_digest(bytes(32), [{"b": None, "a": 1}]) in digests


def test_what_is_no_row_shard(tmp_path: Path) -> None:
    pq.write_table(pa.table({"value": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1PAR1")
    for name in ("a", "b"):
        with pytest.raises(Damaged, match="the shard cannot be read"):
            open_shard(tmp_path / f"{name}.parquet")
    with pytest.raises(FileNotFoundError):
        open_shard(tmp_path / "none.parquet")
    huge = [{"text": "x" * (65 << 20)}]
    with pytest.raises(StoreError, match="a value has at most 67108864 bytes"):
        RowCodec(SCHEMA).admit(huge, "k")

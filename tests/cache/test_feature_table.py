"""A table of features that somebody made: what does not fit is told with its row, and what to do."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache.feature_table import TABLE, import_features
from cache.tables import META
from schema.errors import DataError
from tests.cache.test_exchange import IMAGE, make_dataset, row, write_rows


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(post_id="p9"), r"row 1: the dataset has no such post \(found 'p9'\)"),
        (row(source="box"), r"row 1: unknown source, use one of image, general, phrase \(found 'box'\)"),
        (
            row(**(IMAGE | {"source": "general", "text": "dog"})),
            r"row 1: unknown general word, use one of person, .*'dog'",
        ),
        (row(source="image"), "row 1: word_start and word_end are required for phrases and not allowed otherwise"),
        (row(word_start=None), r"row 1: word_start and word_end are required .* \(found phrase with None and 4\)"),
        (row(word_end=None), r"row 1: word_start and word_end are required .* \(found phrase with 2 and None\)"),
        (
            row(**(IMAGE | {"word_end": 4})),
            r"row 1: word_start and word_end are required .* \(found image with None and 4\)",
        ),
        (row(score=None), r"row 1: the score must be a finite number \(found None\)"),
        (row(score=float("nan")), r"row 1: the score must be a finite number \(found nan\)"),
        (row(word_start=3, word_end=3), r"row 1: a span needs 0 <= start < end"),
        (row(word_end=5), r"row 1: post p2 has 4 words \(found word_end 5\)"),
        (row(x1=0), "row 1: a box needs"),
        (row(x1=None), r"row 1: a box needs all of x0, y0, x1, y1, or none of them \(found \[0, 1, None, 40\]\)"),
        (row(post_id="p0"), r"row 1: post p0 has no image: remove the box"),
        (row(image_index=-1), r"row 1: post p2 has 2 image\(s\) \(found image_index -1\)"),
        (row(x1=101), r"row 1: the image is 100 x 80 \(found a box \(0, 1, 101, 40\)\)"),
        (row(x1=60, image_index=1), r"row 1: the image is 50 x 50"),
        (row(image_index=2), r"row 1: post p2 has 2 image\(s\) \(found image_index 2\)"),
        (
            row(features=[1.0]),
            r"row 1: features have a different width than in the first row \(found 1 and 2 numbers\)",
        ),
        (row(features=None), r"row 1: no features;"),
        (row(features=[]), r"row 1: no features;"),
        (row(features=[1.0, float("nan")]), "row 1: features are not finite in float32"),
        (row(features=[1.0, None]), "row 1: features are not finite in float32"),
        (row(word_start=0), "row 1: row 0 already has this object"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    path = write_rows(tmp_path / "t.parquet", [row(word_start=0), bad])
    with pytest.raises(DataError, match=rf"t\.parquet {message}"):
        import_features(path, make_dataset(), tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


FEATURES = TABLE.get_field_index("features")


@pytest.mark.parametrize(
    ("name", "kind", "good", "bad", "message"),
    [
        ("x0", pa.float64(), 0.0, 1.5, r"row 1: the column x0 must hold whole numbers or null \(found 1\.5\)"),
        ("word_end", pa.float64(), 4.0, float("nan"), r"row 1: the column word_end .* or null \(found nan\)"),
        ("y1", pa.int64(), 40, 2**40, r"row 1: the column y1 must hold whole numbers or null \(found 1099511627776\)"),
        ("score", pa.string(), "0.5", "high", r"row 1: the column score must hold numbers or null \(found 'high'\)"),
        ("features", pa.list_(pa.float64()), [1.0], [1e39], "row 1: features are not finite in float32"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_value_that_its_column_cannot_hold_is_named(
    tmp_path: Path, name: str, kind: pa.DataType, good: object, bad: object, message: str
) -> None:
    table = pa.Table.from_pylist([row(word_start=0), row()], schema=TABLE)
    at = table.schema.get_field_index(name)
    pq.write_table(table.set_column(at, name, pa.array([good, bad], kind)), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=rf"t\.parquet {message}.*; correct the row, then import again"):
        import_features(tmp_path / "t.parquet", make_dataset(), tmp_path / "pack")


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string()), pa.list_(pa.list_(pa.float32())), pa.list_(pa.bool_()), pa.binary()], ids=str
)
def test_features_are_lists_of_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.Table.from_pylist([row()], schema=TABLE)
    pq.write_table(table.set_column(FEATURES, "features", pa.nulls(1, kind)), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"features must be lists of numbers \(found (list|binary)"):
        import_features(tmp_path / "t.parquet", make_dataset(), tmp_path / "pack")


@pytest.mark.parametrize("junk", [b"{", b"[]", b'{"provenance": 3}', b"\xff"])
def test_metadata_that_no_export_writes_is_told(tmp_path: Path, junk: bytes) -> None:
    table = pa.Table.from_pylist([row()], schema=TABLE).replace_schema_metadata({META: junk})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="the file's metadata 'fmit' was not written by `fmit pack export`"):
        import_features(tmp_path / "t.parquet", make_dataset(), tmp_path / "pack")


def test_the_index_of_a_data_frame_is_no_column(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([row()], schema=TABLE).append_column("__index_level_0__", pa.array([7]))
    pq.write_table(table, tmp_path / "t.parquet")
    assert import_features(tmp_path / "t.parquet", make_dataset(), tmp_path / "pack").n_rows == 1
    twice = pa.Table.from_arrays([*table.columns[:-1], table.column("text")], names=[*TABLE.names, "text"])
    pq.write_table(twice, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="found twice text"):
        import_features(tmp_path / "t.parquet", make_dataset(), tmp_path / "pack")


def test_a_bad_table_is_told(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.parquet", [row()], ("score", "text"))
    with pytest.raises(DataError, match=r"needs the columns post_id.*\(found without score, text\)"):
        import_features(path, make_dataset(), tmp_path / "pack")
    table = pa.Table.from_pylist([row()], schema=TABLE)
    pq.write_table(table.append_column("imageindex", pa.array([1])), path)
    with pytest.raises(DataError, match="found with imageindex"):
        import_features(path, make_dataset(), tmp_path / "pack")
    pq.write_table(table.set_column(FEATURES, "features", pa.array([1.0])), path)
    with pytest.raises(DataError, match=r"features must be lists of numbers \(found double\)"):
        import_features(path, make_dataset(), tmp_path / "pack")
    with pytest.raises(DataError, match="the table has no rows"):
        import_features(write_rows(path, []), make_dataset(), tmp_path / "pack")
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="not a readable table of features"):
        import_features(path, make_dataset(), tmp_path / "pack")
    with pytest.raises(DataError, match="no such table"):
        import_features(tmp_path / "none", make_dataset(), tmp_path / "pack")

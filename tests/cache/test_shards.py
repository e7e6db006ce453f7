"""Array shards: any shape, any bits, and nothing that was not put."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cache import keys
from cache.shards import ArrayCodec, Damaged, check_name, open_shard, row_digest
from tests.cache.rows import array_of, key_of, same

CODEC = ArrayCodec()
SHAPES = hnp.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3)
ARRAYS: Any = hnp.arrays(np.dtype("f2"), SHAPES) | hnp.arrays(np.dtype("f4"), SHAPES)


def publish(folder: Path, rows: dict[str, Any], note: str = "{}") -> Path:
    data = CODEC.encode({key: CODEC.admit(value, key) for key, value in rows.items()}, note)
    path = folder / f"{keys.digest_bytes(data)}.h5"
    path.write_bytes(data)
    return path


@settings(max_examples=60, deadline=None)
@given(st.lists(ARRAYS, max_size=5))
def test_arrays_come_back_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, values: list[np.ndarray]) -> None:
    rows = {key_of(at): value for at, value in enumerate(values)}
    path = publish(tmp_path_factory.mktemp("s"), rows)
    check_name(path)
    reader = open_shard(path, "always")
    names = keys.unpack_keys(reader.keys())
    assert names == sorted(rows)
    found = reader.read(range(len(names)), [bytes.fromhex(key) for key in names])
    assert all(same(value, rows[key]) for value, key in zip(found, names, strict=True))
    reader.close()


def test_any_layout_in_memory_is_the_same_row() -> None:
    value = np.arange(24, dtype="f4").reshape(4, 6)
    for other in (np.asfortranarray(value), value[::-1][::-1], value.T.copy().T):
        assert same(CODEC.admit(other, "k"), value)
        assert CODEC.admit(other, "k").flags.c_contiguous


def test_order_of_putting_does_not_matter() -> None:
    rows = {key_of(at): array_of(key_of(at)) for at in range(9)}
    assert CODEC.encode(rows, "{}") == CODEC.encode(dict(reversed(rows.items())), "{}")


def test_a_digest_covers_key_dtype_shape_and_bytes() -> None:
    value, key = np.zeros((2, 3), "f4"), bytes(32)
    others = [
        row_digest(bytes(31) + b"\1", value),
        row_digest(key, np.zeros((2, 6), "f2")),
        row_digest(key, value.reshape(3, 2)),
        row_digest(key, value.reshape(6)),
        row_digest(key, np.full((2, 3), -0.0, "f4")),
    ]
    assert len({row_digest(key, value), *others}) == 6


def test_any_tool_opens_a_shard(tmp_path: Path) -> None:
    path = publish(tmp_path, {key_of(1): np.arange(3, dtype="f2"), key_of(2): np.ones((2, 2), "f4")}, "note")
    with h5py.File(path) as file:
        assert set(file) == {"rows", "float16", "float32"}
        assert file["float16"][()].tolist() == [0, 1, 2]
        assert file["float32"].shape == (4,)
        assert len(file["rows"]) == 2
        assert file.attrs["fmit"] == b"note"


def test_checks_do_what_they_say(tmp_path: Path) -> None:
    """A value flipped in place: "always" sees the row, "shard" the file, "never" nothing; a key is compared by all."""
    path = publish(tmp_path, {key_of(1): np.full(1000, 7, "f4")})
    data = bytearray(path.read_bytes())
    at = data.index(np.full(1000, 7, "f4").tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    key = bytes.fromhex(key_of(1))
    with pytest.raises(Damaged, match="row 0 does not match its digest"):
        open_shard(path, "always").read([0], [key])
    with pytest.raises(Damaged, match="bytes do not match its name"):
        open_shard(path, "shard")
    assert open_shard(path, "never").read([0], [key])[0][0] != 7
    with pytest.raises(Damaged, match="row 0 has a different key"):
        open_shard(path, "never").read([0], [bytes(32)])
    with pytest.raises(Damaged, match="row 1 does not exist"):
        open_shard(path, "never").read([1], [key])


def test_an_hdf5_file_of_others_is_no_shard(tmp_path: Path) -> None:
    for name, content in (
        ("a", {}),
        ("b", {"rows": np.zeros(3)}),
        ("c", {"rows": np.zeros(3), "float16": [1], "float32": [1]}),
    ):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.attrs["fmit"] = np.bytes_(b"{}")
            for dataset, value in content.items():
                file[dataset] = value
        with pytest.raises(Damaged, match=r"the shard has (no rows|a different layout)"):
            open_shard(tmp_path / f"{name}.h5", "never")

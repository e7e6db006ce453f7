"""HDF5 images: equal content is equal bytes, the library agrees on where things lie, damage is an error."""

import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache import hdf5

DATASETS = {
    "table": np.array([(1, 2.5), (3, 4.5)], [("a", "<i4"), ("b", "<f8")]),
    "half": np.arange(12, dtype="f2").reshape(3, 4),
    "none": np.zeros((0, 7), "f4"),
}


def test_equal_content_is_equal_bytes_whenever_it_is_made() -> None:
    first = hdf5.encode(DATASETS, "note")
    time.sleep(1.1)  # HDF5's clock ticks in seconds
    assert hdf5.encode(DATASETS, "note") == first
    assert hdf5.encode(DATASETS, "other") != first


@pytest.mark.parametrize("head", [0, 512])
def test_places_are_where_the_bytes_are(tmp_path: Path, head: int) -> None:
    data = bytes(head) + hdf5.encode(DATASETS, "nöte")
    (tmp_path / "x.h5").write_bytes(data)
    note, places = hdf5.extents(tmp_path / "x.h5")
    assert note == "nöte"
    for name, value in DATASETS.items():
        place = places[name]
        assert (place.shape, place.dtype) == (value.shape, value.dtype)
        assert data[place.offset : place.offset + value.nbytes] == value.tobytes()
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["half"][()], DATASETS["half"])


def test_big_datasets_are_aligned() -> None:
    data = hdf5.encode({"a": np.ones(100, "u1"), "b": np.ones(1000, "f4")}, "")
    assert data.index(np.ones(1000, "f4").tobytes()) % hdf5.ALIGN_BYTES == 0


def test_what_is_no_whole_file_is_an_error(tmp_path: Path) -> None:
    path, good = tmp_path / "x.h5", hdf5.encode(DATASETS, "note")
    for bad in (b"", b"text", good[:-1], good[:1000], good[:48]):
        path.write_bytes(bad)
        with pytest.raises(OSError, match=r"not a readable HDF5 file|extends beyond the end"):
            hdf5.extents(path)
    with pytest.raises(FileNotFoundError):
        hdf5.extents(tmp_path / "none")


def test_a_flip_in_the_librarys_own_bytes_never_crashes_it(tmp_path: Path) -> None:
    """Its metadata carry checksums: a flip there is an error, never other numbers."""
    path, good = tmp_path / "x.h5", hdf5.encode(DATASETS, "note")
    path.write_bytes(good)
    right = hdf5.extents(path)
    rng, n_errors = np.random.default_rng(0), 0
    for at in rng.integers(0, len(good), 200).tolist():
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << int(rng.integers(8)))]) + good[at + 1 :])
        try:
            assert hdf5.extents(path) == right
        except OSError:
            n_errors += 1
    assert 0 < n_errors < 200


def test_chunked_files_of_others_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs[hdf5.NOTE] = np.bytes_(b"note")
        file.create_dataset("a", data=np.zeros(10), chunks=(5,))
    with pytest.raises(OSError, match=r"not contiguous|not a readable HDF5 file"):
        hdf5.extents(tmp_path / "x.h5")

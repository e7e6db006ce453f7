"""HDF5 files whose bytes depend on their content only, and where their contiguous datasets lie.

Readers get offsets from the library and read the bytes themselves: no handle stays open, so forks are safe.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

VERSION = h5py.h5f.LIBVER_V110  # pinned file format; from v110 on HDF5 checks its own metadata by checksums
ALIGN_BYTES = 64  # a dataset starts at a multiple of this, so that views of it are aligned
NOTE = "fmit"  # attribute of the root that holds our JSON


class Extent(NamedTuple):
    """A contiguous dataset: its first byte in the file, shape and dtype. `offset` is 0 for an empty one."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def view(self, file: Any) -> np.ndarray:
        return np.frombuffer(file, self.dtype, math.prod(self.shape), self.offset).reshape(self.shape)


def encode(datasets: Mapping[str, np.ndarray], note: str) -> bytes:
    """The bytes of an HDF5 file with these datasets, contiguous, in this order, and `note` as the root's attribute."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(1 << 20, False)  # in memory: then a full disk does not fail inside the HDF5 library
    access.set_libver_bounds(VERSION, VERSION)
    access.set_alignment(ALIGN_BYTES, ALIGN_BYTES)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)  # the root group would carry the time
    identifier = h5py.h5f.create(b"image", h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access)
    with h5py.File(identifier) as file:
        file.attrs[NOTE] = np.bytes_(note.encode())  # only an attribute of fixed length is covered by a checksum
        for name, value in datasets.items():
            file.create_dataset(name, data=value, track_times=False)
        file.flush()
        return identifier.get_file_image()


def extents(path: Path) -> tuple[str, dict[str, Extent]]:
    """Our note, and each dataset's extent; OSError for anything but a whole HDF5 file with contiguous datasets."""
    datasets = {}
    try:
        with h5py.File(path, "r", locking=False) as file:
            note = file.attrs[NOTE].decode()
            for name, dataset in file.items():
                offset = dataset.id.get_offset() if dataset.size else 0  # nothing is allocated for an empty one
                if offset is None:
                    raise ValueError(f"dataset {dataset.name} is not contiguous")
                datasets[name] = Extent(offset, tuple(dataset.shape), dataset.dtype)
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise OSError(f"not a readable HDF5 file: {error}") from None
    size = path.stat().st_size
    for name, extent in datasets.items():
        if extent.offset + math.prod(extent.shape) * extent.dtype.itemsize > size:
            raise OSError(f"dataset {name} extends beyond the end of the file")
    return note, datasets

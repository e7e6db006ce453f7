"""A spool: posts' objects on disk between a writer that gives them in any order and one that needs them by bucket."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cache.buckets import Objects, decode_regions, encode_regions
from schema.errors import PackError


class Spool:
    """One file, one record a post: features, then regions. In memory: ids and places."""

    def __init__(self, path: Path, dtype: np.dtype, dim: int) -> None:
        self._file = path.open("w+b")
        self._dtype, self._dim = dtype, dim
        self._places: dict[str, tuple[int, int, int]] = {}  # first byte, objects, bytes of regions

    @property
    def ids(self) -> list[str]:
        return list(self._places)

    def add(self, post_id: str, objects: Objects) -> None:
        """Take a post; PackError for one that came before or whose features do not fit."""
        features = objects.features
        if post_id in self._places:
            raise PackError(f"post {post_id!r} comes twice")
        if features.dtype != self._dtype or features.shape != (len(objects.regions), self._dim):
            raise PackError(
                f"post {post_id!r}: features must be {self._dtype} [{len(objects.regions)}, {self._dim}]",
                found=f"{features.dtype} {list(features.shape)}",
            )
        regions = encode_regions(objects.regions)
        self._places[post_id] = (self._file.tell(), len(features), len(regions))
        self._file.write(np.ascontiguousarray(features).tobytes())
        self._file.write(regions)

    def read(self, post_id: str) -> Objects:
        """A post's objects again."""
        offset, count, n_bytes = self._places[post_id]
        self._file.seek(offset)
        features = np.frombuffer(self._file.read(count * self._dim * self._dtype.itemsize), self._dtype)
        return Objects(features.reshape(count, self._dim), decode_regions(self._file.read(n_bytes)))

    def close(self) -> None:
        self._file.close()

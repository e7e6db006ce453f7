"""Bucket files of a pack: their layout, their bytes, and how a post is read from one.

P posts, N objects of the bucket, M objects of one post, D width. Datasets, all contiguous, posts sorted by id:
`features` [N, D]; `first` [P + 1]: a post's objects are first[p] .. first[p + 1]; `ids` concatenated UTF-8 with
`id_ends` [P]; `digests` [P, 32]; of each object `source` [N], `span` [N, 2] (-1: none), `box` [N, 4], `image_index` [N]
(-1: no box), `score` [N], and `text`, concatenated UTF-8 with `text_ends` [N].
"""

from __future__ import annotations

import hashlib
import itertools
import json
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cache import hdf5, keys
from schema.errors import PackError
from schema.records import SOURCES, Region

HEAD_BYTES = 512  # the smallest HDF5 user block
FORMAT = 1
TODO = "pull the pack, or run the regions stage again"
_NAMES = {"features", "first", "ids", "id_ends", "digests", "source", "span", "box", "image_index", "score", "text"}


@dataclass(frozen=True)
class Objects:
    """A post's objects in the lattice's order: features [M, D] float16 or float32, regions of length M."""

    features: np.ndarray
    regions: tuple[Region, ...]


Place = tuple[np.ndarray, tuple["Bucket", int, int]]  # of a post: its features' view; bucket, first and end row


class StoredObjects(Objects):
    """Objects in a bucket file: features are a view of it, regions are made when first used.

    Training makes one for each post that it reads, thousands a second: slots that are set past the frozen base class
    take half the time.
    """

    __slots__ = ("_rows", "features")
    _rows: tuple[Bucket, int, int]

    def __init__(self, features: np.ndarray, rows: tuple[Bucket, int, int]) -> None:
        _set_features(self, features)
        _set_rows(self, rows)

    @cached_property
    def regions(self) -> tuple[Region, ...]:  # type: ignore[override]
        bucket, start, end = self._rows
        return tuple(bucket.region(row) for row in range(start, end))

    def __reduce__(self) -> tuple[Any, ...]:
        return Objects, (np.array(self.features), self.regions)


_set_features, _set_rows = (vars(StoredObjects)[name].__set__ for name in ("features", "_rows"))


class Bucket:
    """An open bucket file. PackError if it is damaged, or does not hold the bucket that its name says."""

    def __init__(self, path: Path, index: int, n_buckets: int, dtype: str, dim: int) -> None:
        try:
            note, self._extents = hdf5.extents(path)
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if self._extents.keys() < _NAMES or note != bucket_note(index, n_buckets):
                raise ValueError(f"it says {note}")
            self._features = self._column("features")
            if (str(self._features.dtype), *self._features.shape[1:]) != (dtype, dim):
                raise ValueError(f"its features are {self._features.dtype} {list(self._features.shape)}")
            self._first = self._column("first").tolist()
            self.rows = {post_id: row for row, post_id in enumerate(self._texts("ids", "id_ends"))}
        except (OSError, ValueError, KeyError) as error:
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
            raise PackError(f"not a readable bucket: {why}", where=str(path), todo=TODO) from None

    def place_of(self, post_id: str) -> Place:
        """Where a post's objects are; KeyError if it is not here."""
        row = self.rows[post_id]
        start, end = self._first[row], self._first[row + 1]
        return self._features[start:end], (self, start, end)

    def region(self, row: int) -> Region:
        """The region of one object of the bucket."""
        columns = self._columns
        return Region.from_list(
            SOURCES[columns["source"][row]],
            self._object_texts[row],
            columns["span"][row].tolist(),
            [*columns["box"][row].tolist(), int(columns["image_index"][row])],
            float(columns["score"][row]),
        )

    def digests(self) -> dict[str, bytes]:
        """Post id to the sha256 of its content."""
        table = self._column("digests")
        return {post_id: table[row].tobytes() for post_id, row in self.rows.items()}

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        return {name: self._column(name) for name in ("source", "span", "box", "image_index", "score")}

    @cached_property
    def _object_texts(self) -> list[str]:
        return self._texts("text", "text_ends")

    def _column(self, name: str) -> np.ndarray:
        return self._extents[name].view(self._map)

    def _texts(self, name: str, ends: str) -> list[str]:
        data, limits = self._column(name).tobytes(), [0, *self._column(ends).tolist()]
        return [data[start:end].decode() for start, end in itertools.pairwise(limits)]


def bucket_name(index: int) -> str:
    return f"bucket-{index:03d}.h5"


def bucket_of(post_id: str, n_buckets: int) -> int:
    """Which bucket a post belongs to: by the sha256 of its id, the same on every machine."""
    return int.from_bytes(hashlib.sha256(post_id.encode()).digest()[:8], "big") % n_buckets


def bucket_note(index: int, n_buckets: int) -> str:
    return keys.canonical({"format": FORMAT, "bucket": index, "n_buckets": n_buckets})


def bucket_bytes(posts: Sequence[tuple[str, Objects]], dtype: str, dim: int, note: str) -> bytes:
    """The bytes of a bucket file with these posts, sorted by id: a head with the sha256 of the HDF5 file behind it."""
    objects = [one for _, one in posts]
    regions = [region.to_list() for one in objects for region in one.regions]
    ids, texts = [one.encode() for one, _ in posts], [text.encode() for _, text, *_ in regions]
    datasets = {
        "features": np.concatenate([np.zeros((0, dim), dtype), *(one.features for one in objects)]),
        "first": np.cumsum([0, *(len(one.regions) for one in objects)], dtype=np.int64),
        "ids": np.frombuffer(b"".join(ids), np.uint8),
        "id_ends": np.cumsum([len(one) for one in ids], dtype=np.int64),
        "digests": np.array([list(post_digest(*post)) for post in posts], np.uint8).reshape(-1, keys.KEY_BYTES),
        "source": np.array([SOURCES.index(source) for source, *_ in regions], np.uint8),
        "span": np.array([span for _, _, span, _, _ in regions], np.int32).reshape(-1, 2),
        "box": np.array([box[:4] for *_, box, _ in regions], np.int32).reshape(-1, 4),
        "image_index": np.array([box[4] for *_, box, _ in regions], np.int32),
        "score": np.array([score for *_, score in regions], np.float64),
        "text": np.frombuffer(b"".join(texts), np.uint8),
        "text_ends": np.cumsum([len(one) for one in texts], dtype=np.int64),
    }
    body = hdf5.encode(datasets, note)
    return _head(body) + body


def verify_bucket(path: Path) -> None:
    """PackError unless every byte of a bucket file is as it was written."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PackError(f"a bucket cannot be read: {error.strerror}", where=str(path)) from None
    if data[:HEAD_BYTES] != _head(data[HEAD_BYTES:]):
        raise PackError("a bucket's bytes do not match its digest", where=str(path), todo=TODO)


def post_digest(post_id: str, objects: Objects) -> bytes:
    """sha256 over a post's id, regions, and the dtype, shape and bytes of its features."""
    features = np.ascontiguousarray(objects.features)
    head = keys.canonical([post_id, str(features.dtype), list(features.shape)])
    digest = hashlib.sha256(head.encode() + encode_regions(objects.regions))
    digest.update(features.reshape(-1).view(np.uint8).data)
    return digest.digest()


def encode_regions(regions: Sequence[Region]) -> bytes:
    """Regions as canonical JSON."""
    return keys.canonical([region.to_list() for region in regions]).encode()


def decode_regions(data: bytes) -> tuple[Region, ...]:
    return tuple(Region.from_list(*values) for values in json.loads(data))


def _head(body: bytes) -> bytes:
    """An HDF5 user block that names the digest of the rest: any changed byte is found without a second file."""
    text = f"fmit pack bucket\nsha256 of what follows byte {HEAD_BYTES}: {keys.digest_bytes(body)}\n"
    return text.encode().ljust(HEAD_BYTES, b"\0")

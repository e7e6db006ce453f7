"""Packs: what training reads of the images. A fixed number of bucket files, each with the posts that hash to it.

A bucket's bytes depend on its own posts only, so one changed post changes one file. Features are read through a memory
map. M objects of a post, D width.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from cache import atomic, keys
from cache.buckets import (
    Bucket,
    Objects,
    Place,
    StoredObjects,
    bucket_bytes,
    bucket_name,
    bucket_note,
    bucket_of,
    decode_regions,
    encode_regions,
    verify_bucket,
)
from schema.errors import PackError
from schema.records import Post

__all__ = ["Objects", "Pack", "PackMeta", "cells_of", "write_pack"]

VERSION = 1
META = "meta.json"
GRID = "grid"  # the folder of the second pack in a pack
FILES = r"meta\.json|grid|bucket-\d+\.h5"  # names in a pack's folder


@dataclass(frozen=True)
class PackMeta:
    """What all posts of a pack share; nothing here changes when a post does.

    dim: floats per feature; dtype: "float16" or "float32"; synthetic: made by parts that were trained on drawings;
    provenance: JSON that describes what computed the features, and nothing of the posts.
    """

    dim: int
    dtype: str
    n_buckets: int
    general_words: tuple[str, ...]
    synthetic: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in ("float16", "float32") or self.dim < 1 or self.n_buckets < 1:
            raise PackError(
                "a pack has float16 or float32 features, dim >= 1 and n_buckets >= 1",
                found=f"{self.dtype}, dim {self.dim}, n_buckets {self.n_buckets}",
            )
        object.__setattr__(self, "general_words", tuple(self.general_words))


def cells_of(post: Post, read: Callable[[str], Objects], dim: int, dtype: str) -> Objects:
    """The grid cells of a post's images; `read` gives those of an image by its digest."""
    features, regions = [np.zeros((0, dim), dtype)], []
    for index, image in enumerate(post.images):
        if image.ok:
            cells = read(image.digest)
            features.append(cells.features)
            regions += [replace(cell, box=cell.box and replace(cell.box, image_index=index)) for cell in cells.regions]
    return Objects(np.concatenate(features), tuple(regions))


class Pack:
    """An open pack. Pickles as its path: a worker process opens its own maps."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.meta = _read_meta(self.folder)
        self._buckets: dict[int, Bucket] = {}
        self._places: dict[str, Place] = {}  # of the posts read so far

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a pack; PackError if the folder is not one. Buckets are opened when one of their posts is read."""
        return cls(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder,)

    def __contains__(self, post_id: str) -> bool:
        return post_id in self._bucket(post_id).rows

    @property
    def grid(self) -> Pack | None:
        """The cells of each distinct image, by digest; None if the pack was made without."""
        return type(self)(self.folder / GRID) if (self.folder / GRID).is_dir() else None

    @property
    def ids(self) -> list[str]:
        """All post ids, sorted."""
        return sorted(post_id for bucket in self._all_buckets() for post_id in bucket.rows)

    def read(self, post_id: str) -> Objects:
        """A post's objects; `features` [M, D] is a read-only view of the file, `regions` are made when first used."""
        place = self._places.get(post_id) or self._place(post_id)
        return StoredObjects(*place)

    def verify(self) -> list[str]:
        """What is wrong with the files of the pack and its grid, a line each; empty if all bytes are as written."""
        problems = self.grid.verify() if self.grid is not None else []
        for index in range(self.meta.n_buckets):
            try:
                verify_bucket(self.folder / bucket_name(index))
                self._open(index)
            except PackError as error:
                problems.append(str(error))
        own = {META, GRID, *(bucket_name(index) for index in range(self.meta.n_buckets))}
        foreign = [path for path in sorted(self.folder.iterdir()) if path.name not in own]
        return problems + [f"{path}: does not belong to this pack" for path in foreign]

    def digest(self) -> str:
        """sha256 over width, dtype, general words and posts; neither the number of buckets nor the grid matters."""
        head = keys.canonical([self.meta.dim, self.meta.dtype, list(self.meta.general_words), self.meta.synthetic])
        digest = hashlib.sha256(head.encode())
        posts = {post_id: content for bucket in self._all_buckets() for post_id, content in bucket.digests().items()}
        for post_id in sorted(posts):
            digest.update(keys.canonical(post_id).encode() + posts[post_id])
        return digest.hexdigest()

    def _place(self, post_id: str) -> Place:
        try:
            place = self._places[post_id] = self._bucket(post_id).place_of(post_id)
        except KeyError:
            todo = "run the regions stage again"
            raise PackError(f"no post {post_id!r} in the pack", where=str(self.folder), todo=todo) from None
        return place

    def _bucket(self, post_id: str) -> Bucket:
        return self._open(bucket_of(post_id, self.meta.n_buckets))

    def _all_buckets(self) -> list[Bucket]:
        return [self._open(index) for index in range(self.meta.n_buckets)]

    def _open(self, index: int) -> Bucket:
        if index not in self._buckets:
            path, meta = self.folder / bucket_name(index), self.meta
            self._buckets[index] = Bucket(path, index, meta.n_buckets, meta.dtype, meta.dim)
        return self._buckets[index]


def _read_meta(folder: Path) -> PackMeta:
    try:
        value = json.loads((folder / META).read_bytes())
        if value.pop("schema_version") != VERSION:
            raise ValueError(f"another schema version than {VERSION}")
        return PackMeta(**value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        todo = "run the regions stage, or `fmit pack import`"
        raise PackError(f"not a readable pack: {error}", where=str(folder), todo=todo) from None


def write_pack(
    folder: str | Path,
    meta: PackMeta,
    posts: Iterable[tuple[str, Objects]],
    *,
    grid: tuple[PackMeta, Iterable[tuple[str, Objects]]] | None = None,
) -> None:
    """Publish a pack of (post id, objects), in any order, as one folder that replaces an old pack there.

    `grid`: meta and (image digest, cells) of the second pack in it; the other files do not depend on it. At most one
    bucket is held in memory. PackError for a repeated id, or features of another width or dtype than `meta` says.
    """
    folder = Path(folder)
    try:
        with atomic.folder(folder) as new:
            _write_files(new, folder, meta, posts)
            if grid is not None:
                (new / GRID).mkdir()
                _write_files(new / GRID, folder / GRID, *grid)
    except OSError as error:
        todo = "free space or fix the folder's rights, then run the same command again"
        what = f"the pack cannot be written: {error.strerror or error}"
        raise PackError(what, where=str(folder), todo=todo) from None


def _write_files(new: Path, old: Path, meta: PackMeta, posts: Iterable[tuple[str, Objects]]) -> None:
    """Write a pack's files into the empty folder `new`; `old` is where the previous pack may be.

    Posts wait in a staging file until all are known. Every bucket is written, empty ones too: then adding or removing a
    post changes one file, and creates none.
    """
    members: dict[int, dict[str, tuple[int, int, int]]] = defaultdict(dict)  # first byte, objects, bytes of regions
    dtype = np.dtype(meta.dtype)
    with tempfile.TemporaryFile(dir=new) as staging:
        for post_id, objects in posts:
            bucket = members[bucket_of(post_id, meta.n_buckets)]
            if post_id in bucket:
                raise PackError(f"post {post_id!r} comes twice")
            _check_features(post_id, objects, dtype, meta.dim)
            regions = encode_regions(objects.regions)
            bucket[post_id] = (staging.tell(), len(objects.regions), len(regions))
            staging.write(np.ascontiguousarray(objects.features).tobytes() + regions)

        def read(offset: int, n_objects: int, n_bytes: int) -> Objects:
            staging.seek(offset)
            features = np.frombuffer(staging.read(n_objects * meta.dim * dtype.itemsize), dtype)
            return Objects(features.reshape(n_objects, meta.dim), decode_regions(staging.read(n_bytes)))

        for index in range(meta.n_buckets):
            bucket_posts = [(post_id, read(*place)) for post_id, place in sorted(members[index].items())]
            content = bucket_bytes(bucket_posts, meta.dtype, meta.dim, bucket_note(index, meta.n_buckets))
            _write_or_link(content, new / bucket_name(index), old / bucket_name(index))
    text = json.dumps({"schema_version": VERSION, **asdict(meta)}, indent=1, sort_keys=True, ensure_ascii=False)
    (new / META).write_bytes((text + "\n").encode())


def _check_features(post_id: str, objects: Objects, dtype: np.dtype, dim: int) -> None:
    features, n_objects = objects.features, len(objects.regions)
    if features.dtype != dtype or features.shape != (n_objects, dim):
        what = f"post {post_id!r}: features must be {dtype} [{n_objects}, {dim}]"
        raise PackError(what, found=f"{features.dtype} {list(features.shape)}")


def _write_or_link(content: bytes, new: Path, old: Path) -> None:
    """Write a bucket into the new folder; one that did not change keeps its file, and with it its time."""
    if old.is_file() and old.stat().st_size == len(content) and old.read_bytes() == content:
        with contextlib.suppress(OSError):  # no hard links on this disk: write it
            os.link(old, new)
            return
    new.write_bytes(content)

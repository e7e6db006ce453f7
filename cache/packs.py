"""Packs: what training reads of the pictures. A fixed number of bucket files, each holding the posts that hash to it.

A bucket's bytes depend on its own posts alone, so one changed post changes one file. Features are read through a memory
map at their dataset's offset. A file begins with 512 bytes of our own (an HDF5 user block) that name the sha256 of the
rest: `verify` finds any changed byte without a second file.
P posts, N objects of a bucket, M objects of a post, D width.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
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
    Spool,
    StoredObjects,
    bucket_bytes,
    bucket_name,
    bucket_note,
    bucket_of,
    verify_bucket,
)
from schema.errors import PackError
from schema.records import Post

__all__ = ["Objects", "Pack", "PackMeta", "cells_of", "write_pack"]

VERSION = 1
META = "meta.json"
GRID = "grid"  # the folder of a pack's second pack
FILES = r"meta\.json|grid|bucket-\d+\.h5"  # names in a pack's folder


@dataclass(frozen=True)
class PackMeta:
    """What all posts of a pack share; nothing here changes when a post does.

    dim: floats a feature; dtype: "float16" or "float32"; synthetic: made by parts that were trained on drawings;
    provenance: JSON that names what computed the features, and nothing of the posts.
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
    """The grid cells of a post's pictures, which `read` gives by digest; none for a post without a picture."""
    features, regions = [np.zeros((0, dim), dtype)], []
    for index, image in enumerate(post.images):
        if image.ok:
            cells = read(image.digest)
            features.append(cells.features)
            regions += [replace(one, box=one.box and replace(one.box, image_index=index)) for one in cells.regions]
    return Objects(np.concatenate(features), tuple(regions))


def write_pack(
    folder: str | Path,
    meta: PackMeta,
    posts: Iterable[tuple[str, Objects]],
    n_buckets: int | None = None,
    *,
    grid: tuple[PackMeta, Iterable[tuple[str, Objects]]] | None = None,
) -> None:
    """Publish a pack of (post id, objects), given in any order, as one folder; an old pack there is replaced.

    `grid`: meta and (picture digest, cells) of the pack in it; the bytes beside it do not depend on it. No more than
    one bucket is held in memory. PackError for a repeated id, or features of another width or dtype than `meta` says.
    `n_buckets`, where given, must be that of `meta`.
    """
    if n_buckets not in (None, meta.n_buckets):
        raise PackError("two numbers of buckets", found=f"{n_buckets}, and {meta.n_buckets} in the pack's meta")
    folder = Path(folder)
    try:
        with atomic.folder(folder) as new:
            _fill(new, folder, meta, posts)
            if grid is not None:
                (new / GRID).mkdir()
                _fill(new / GRID, folder / GRID, *grid)
    except OSError as error:
        raise PackError(
            f"the pack cannot be written: {error.strerror or error}",
            where=str(folder),
            todo="free space or mend the folder's rights, then run the same command again",
        ) from None


class Pack:
    """An open pack. Pickles as its path: a worker process opens its own maps."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.meta = _read_meta(self.folder)
        self._buckets: dict[int, Bucket] = {}
        self._places: dict[str, Place] = {}  # of the posts read so far

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a pack; PackError when it is none. Buckets are opened when a post of theirs is asked for."""
        return cls(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder,)

    def __contains__(self, post_id: str) -> bool:
        return post_id in self._bucket(post_id).rows

    @property
    def grid(self) -> Pack | None:
        """The cells of each distinct picture, by digest; None where the pack was made without."""
        return type(self)(self.folder / GRID) if (self.folder / GRID).is_dir() else None

    @property
    def ids(self) -> list[str]:
        """All post ids, sorted."""
        return sorted(one for index in range(self.meta.n_buckets) for one in self._open(index).rows)

    def read(self, post_id: str) -> Objects:
        """A post's objects; `features` [M, D] is a read-only view of the file, `regions` are made when first used."""
        place = self._places.get(post_id) or self._place(post_id)
        return StoredObjects(*place)

    def verify(self) -> list[str]:
        """What is wrong with the pack's files, its grid's too, a line each; empty when all bytes are as written."""
        problems = self.grid.verify() if self.grid is not None else []
        for index in range(self.meta.n_buckets):
            try:
                verify_bucket(self.folder / bucket_name(index))
                self._open(index)
            except PackError as error:
                problems.append(str(error))
        known = {META, GRID, *(bucket_name(index) for index in range(self.meta.n_buckets))}
        return problems + [
            f"{path}: not of this pack" for path in sorted(self.folder.iterdir()) if path.name not in known
        ]

    def digest(self) -> str:
        """sha256 over width, dtype, general words, posts; neither the number of buckets nor the grid matters."""
        posts = {}
        for index in range(self.meta.n_buckets):
            posts.update(self._open(index).digests())
        head = keys.canonical([self.meta.dim, self.meta.dtype, list(self.meta.general_words), self.meta.synthetic])
        digest = hashlib.sha256(head.encode())
        for post_id in sorted(posts):
            digest.update(keys.canonical(post_id).encode() + posts[post_id])
        return digest.hexdigest()

    def _place(self, post_id: str) -> Place:
        bucket = self._bucket(post_id)
        if post_id not in bucket.rows:
            raise PackError(
                f"no post {post_id!r} in the pack", where=str(self.folder), todo="run the regions stage again"
            )
        place = self._places[post_id] = bucket.place_of(post_id)
        return place

    def _bucket(self, post_id: str) -> Bucket:
        return self._open(bucket_of(post_id, self.meta.n_buckets))

    def _open(self, index: int) -> Bucket:
        if index not in self._buckets:
            path, meta = self.folder / bucket_name(index), self.meta
            self._buckets[index] = Bucket(path, index, meta.n_buckets, (meta.dtype, meta.dim))
        return self._buckets[index]


def _fill(new: Path, old: Path, meta: PackMeta, posts: Iterable[tuple[str, Objects]]) -> None:
    """Write a pack into the empty folder `new`; `old` is where the one before it may lie."""
    with contextlib.closing(Spool(new / "spool", np.dtype(meta.dtype), meta.dim)) as spool:
        for post_id, objects in posts:
            spool.add(post_id, objects)
        _write_buckets(spool, meta, new, old)
    (new / "spool").unlink()
    text = json.dumps({"schema_version": VERSION, **asdict(meta)}, indent=1, sort_keys=True, ensure_ascii=False)
    (new / META).write_bytes((text + "\n").encode())


def _write_buckets(spool: Spool, meta: PackMeta, new: Path, old: Path) -> None:
    """Write every bucket, empty ones too: then a post's coming or going changes one file, and makes none."""
    members: list[list[str]] = [[] for _ in range(meta.n_buckets)]
    for post_id in spool.ids:
        members[bucket_of(post_id, meta.n_buckets)].append(post_id)
    for index, ids in enumerate(members):
        posts = [(one, spool.read(one)) for one in sorted(ids)]
        content = bucket_bytes(posts, meta.dtype, meta.dim, bucket_note(index, meta.n_buckets))
        _put_file(content, new / bucket_name(index), old / bucket_name(index))


def _put_file(content: bytes, new: Path, old: Path) -> None:
    """Put a bucket into the new folder; one that did not change keeps its file, and with it its time."""
    if old.is_file() and old.stat().st_size == len(content) and old.read_bytes() == content:
        with contextlib.suppress(OSError):  # no hard links here: write it
            os.link(old, new)
            return
    new.write_bytes(content)


def _read_meta(folder: Path) -> PackMeta:
    try:
        value = json.loads((folder / META).read_bytes())
        if value.pop("schema_version") != VERSION:
            raise ValueError(f"another schema version than {VERSION}")
        return PackMeta(**value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackError(
            f"no readable pack: {error}", where=str(folder), todo="run the regions stage, or `fmit pack import`"
        ) from None

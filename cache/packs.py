"""Packs: what training reads of the images. A fixed number of bucket files, each with the posts that hash to it.

A bucket's bytes depend on its own posts only, so one changed post changes one file. Features are read through a memory
map. P posts, N objects of the bucket, M objects of one post, D width. Datasets of a bucket file, all contiguous, posts
sorted by id: `features` [N, D]; `first` [P + 1]: a post's objects are first[p] .. first[p + 1]; `ids` concatenated
UTF-8 with `id_ends` [P]; `digests` [P, 32]; of each object `source` [N], `span` [N, 2] (-1: none), `box` [N, 4],
`image_index` [N] (-1: no box), `score` [N], and `text`, concatenated UTF-8 with `text_ends` [N].
"""

import contextlib
import hashlib
import itertools
import json
import mmap
import os
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import numpy as np

from cache import atomic, hdf5, keys
from schema.errors import PackError
from schema.records import SOURCES, Post, Region

VERSION = 1
FORMAT = 1  # of bucket files
MAX_PLACES = 100_000  # posts of an open pack whose place is remembered, 50 MB
HEAD_BYTES = 512  # the smallest HDF5 user block
META = "meta.json"
GRID = "grid"  # the folder of the second pack in a pack
FILES = r"meta\.json|grid|bucket-\d+\.h5"  # names in a pack's folder
TODO = "pull the pack, or run the regions stage again"
_NAMES = {"features", "first", "ids", "id_ends", "digests", "source", "span", "box", "image_index", "score", "text"}


@dataclass(frozen=True)
class PackMeta:
    dim: int  # floats per feature
    dtype: str  # "float16" or "float32"
    n_buckets: int
    general_words: tuple[str, ...]
    synthetic: bool = False  # computed by parts that were trained on synthetic images
    provenance: dict[str, Any] = field(default_factory=dict)  # JSON that describes what computed the features

    def __post_init__(self) -> None:
        if self.dtype not in ("float16", "float32") or self.dim < 1 or self.n_buckets < 1:
            what = "a pack needs float16 or float32 features, dim >= 1 and n_buckets >= 1"
            raise PackError(what, found=f"{self.dtype}, dim {self.dim}, n_buckets {self.n_buckets}")
        object.__setattr__(self, "general_words", tuple(self.general_words))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `asdict`; raises PackError for the keys of another version."""
        if unknown := sorted(values.keys() - {one.name for one in fields(cls)}):
            raise PackError("written by another version of fmit", found=f"the key {unknown[0]!r}")
        return cls(**values)


class Objects:
    """A post's objects in the lattice's order: features [M, D] float16 or float32, regions of length M."""

    __slots__ = ("_features", "_regions")

    def __init__(self, features: np.ndarray, regions: tuple[Region, ...] | Callable[[], tuple[Region, ...]]) -> None:
        self._features, self._regions = features, regions  # a function is called when regions are first used

    @property
    def features(self) -> np.ndarray:
        return self._features

    @property
    def regions(self) -> tuple[Region, ...]:
        if callable(self._regions):
            self._regions = self._regions()
        return self._regions

    def __reduce__(self) -> tuple[Any, ...]:
        return Objects, (np.array(self.features), self.regions)


ObjectsById = Iterable[tuple[str, Objects]]  # id of a post, or digest of an image


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
    """An open pack; PackError if the folder is not one. It is pickled as its path: each process opens its own maps."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            value = json.loads((self.folder / META).read_bytes())
            if value.pop("schema_version") != VERSION:
                raise ValueError(f"the schema version is not {VERSION}")
            self.meta = PackMeta.from_json(value)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, PackError) as error:
            todo = "run the regions stage, or `fmit pack import`"
            raise PackError(f"not a readable pack: {error}", where=str(folder), todo=todo) from None
        self._buckets: dict[int, Bucket] = {}
        self._places: dict[str, tuple[np.ndarray, partial[tuple[Region, ...]]]] = {}  # of the posts read so far

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder,)

    def __contains__(self, post_id: str) -> bool:
        return post_id in self._bucket(bucket_of(post_id, self.meta.n_buckets)).rows

    @property
    def grid(self) -> "Pack | None":
        """The cells of each distinct image, by digest; None if the pack has none."""
        return type(self)(self.folder / GRID) if (self.folder / GRID).is_dir() else None

    @property
    def ids(self) -> list[str]:
        return sorted(post_id for index in range(self.meta.n_buckets) for post_id in self._bucket(index).rows)

    def read(self, post_id: str) -> Objects:
        """A post's objects; `features` [M, D] is a read-only view of the file."""
        place = self._places.get(post_id)
        if place is None:
            try:
                place = self._bucket(bucket_of(post_id, self.meta.n_buckets)).place_of(post_id)
            except KeyError:
                raise PackError(f"no post {post_id!r} in the pack", where=str(self.folder), todo=TODO) from None
            if len(self._places) < MAX_PLACES:
                self._places[post_id] = place
        return Objects(*place)

    def verify(self) -> list[str]:
        """What is wrong with the files of the pack and its grid, a line each; empty if all bytes are as written."""
        problems = self.grid.verify() if self.grid is not None else []
        names = [bucket_name(index) for index in range(self.meta.n_buckets)]
        for index, name in enumerate(names):
            try:
                verify_bucket(self.folder / name)
                self._bucket(index)
            except PackError as error:
                problems.append(str(error))
        foreign = [path for path in sorted(self.folder.iterdir()) if path.name not in {META, GRID, *names}]
        return problems + [f"{path}: does not belong to this pack" for path in foreign]

    def digest(self) -> str:
        """sha256 over width, dtype, general words and posts; neither the number of buckets nor the grid matters."""
        head = keys.canonical([self.meta.dim, self.meta.dtype, list(self.meta.general_words), self.meta.synthetic])
        digest = hashlib.sha256(head.encode())
        posts = {key: value for index in range(self.meta.n_buckets) for key, value in self._bucket(index).digests()}
        for post_id, content in sorted(posts.items()):
            digest.update(keys.canonical(post_id).encode() + content)
        return digest.hexdigest()

    def _bucket(self, index: int) -> "Bucket":
        if index not in self._buckets:
            path, meta = self.folder / bucket_name(index), self.meta
            self._buckets[index] = Bucket(path, index, meta.n_buckets, meta.dtype, meta.dim)
        return self._buckets[index]


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

    def place_of(self, post_id: str) -> tuple[np.ndarray, partial[tuple[Region, ...]]]:
        """A post's features and what reads its regions; KeyError if it is not here."""
        row = self.rows[post_id]
        start, end = self._first[row], self._first[row + 1]
        return self._features[start:end], partial(self._regions, start, end)

    def digests(self) -> list[tuple[str, bytes]]:
        table = self._column("digests")
        return [(post_id, table[row].tobytes()) for post_id, row in self.rows.items()]

    def _regions(self, start: int, end: int) -> tuple[Region, ...]:
        names = ("source", "span", "box", "image_index", "score")
        columns = (self._column(name)[start:end].tolist() for name in names)
        texts = self._texts("text", "text_ends", start, end)
        return tuple(
            Region.from_list(SOURCES[source], text, span, [*box, image_index], score)
            for text, source, span, box, image_index, score in zip(texts, *columns, strict=True)
        )

    def _column(self, name: str) -> np.ndarray:
        return self._extents[name].view(self._map)

    def _texts(self, name: str, ends: str, start: int = 0, end: int | None = None) -> list[str]:
        limits = [0, *self._column(ends)[:end].tolist()] if start == 0 else self._column(ends)[start - 1 : end].tolist()
        data = self._column(name)[limits[0] : limits[-1]].tobytes()
        return [data[one - limits[0] : other - limits[0]].decode() for one, other in itertools.pairwise(limits)]


def bucket_name(index: int) -> str:
    return f"bucket-{index:03d}.h5"


def bucket_of(post_id: str, n_buckets: int) -> int:
    """Which bucket a post belongs to: by the sha256 of its id, the same on every machine."""
    return int.from_bytes(hashlib.sha256(post_id.encode()).digest()[:8], "big") % n_buckets


def bucket_note(index: int, n_buckets: int) -> str:
    return keys.canonical({"format": FORMAT, "bucket": index, "n_buckets": n_buckets})


def bucket_bytes(posts: Sequence[tuple[str, Objects]], dtype: str, dim: int, note: str) -> bytes:
    """The bytes of a bucket file with these posts, sorted by id: a head with the sha256 of the HDF5 file behind it."""
    regions = [region.to_list() for _, objects in posts for region in objects.regions]
    sources, texts, spans, boxes, scores = zip(*regions, strict=True) if regions else ((),) * 5
    encoded_ids, encoded = [post_id.encode() for post_id, _ in posts], [text.encode() for text in texts]
    datasets = {
        "features": np.concatenate([np.zeros((0, dim), dtype), *(objects.features for _, objects in posts)]),
        "first": np.cumsum([0, *(len(objects.regions) for _, objects in posts)], dtype=np.int64),
        "ids": np.frombuffer(b"".join(encoded_ids), np.uint8),
        "id_ends": np.cumsum([len(post_id) for post_id in encoded_ids], dtype=np.int64),
        "digests": np.array([list(post_digest(*post)) for post in posts], np.uint8).reshape(-1, keys.KEY_BYTES),
        "source": np.array([SOURCES.index(source) for source in sources], np.uint8),
        "span": np.array(spans, np.int32).reshape(-1, 2),
        "box": np.array([box[:4] for box in boxes], np.int32).reshape(-1, 4),
        "image_index": np.array([box[4] for box in boxes], np.int32),
        "score": np.array(scores, np.float64),
        "text": np.frombuffer(b"".join(encoded), np.uint8),
        "text_ends": np.cumsum([len(text) for text in encoded], dtype=np.int64),
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
    regions = keys.canonical([region.to_list() for region in objects.regions])
    digest = hashlib.sha256(head.encode() + regions.encode())
    digest.update(features.reshape(-1).view(np.uint8).data)
    return digest.digest()


def _head(body: bytes) -> bytes:
    """An HDF5 user block that holds the digest of the rest, by which any changed byte is found."""
    text = f"fmit pack bucket\nsha256 of what follows byte {HEAD_BYTES}: {keys.digest_bytes(body)}\n"
    return text.encode().ljust(HEAD_BYTES, b"\0")


def write_pack(
    folder: str | Path, meta: PackMeta, posts: ObjectsById, *, grid: tuple[PackMeta, ObjectsById] | None = None
) -> None:
    """Publish a pack of (post id, objects) in any order; `grid`: meta and (image digest, cells) of its second pack."""
    folder = Path(folder)
    try:
        with atomic.folder(folder) as new:
            _write_files(new, folder, meta, posts)
            if grid is not None:
                (new / GRID).mkdir()
                _write_files(new / GRID, folder / GRID, *grid)
    except OSError as error:
        todo = "free space or fix the folder's permissions, then run the same command again"
        what = f"the pack cannot be written: {error.strerror or error}"
        raise PackError(what, where=str(folder), todo=todo) from None


def _write_files(new: Path, old: Path, meta: PackMeta, posts: ObjectsById) -> None:
    """Write a pack's files into the empty folder `new`; `old` is where the previous pack may be."""
    places: dict[int, array[int]] = defaultdict(lambda: array("q"))  # of each bucket's posts in the staging file
    dtype = np.dtype(meta.dtype)
    with tempfile.TemporaryFile(dir=new) as staging:  # posts wait here until all are known: one bucket is in memory
        for post_id, objects in posts:
            features, regions = objects.features, [region.to_list() for region in objects.regions]
            if features.dtype != dtype or features.shape != (len(regions), meta.dim):
                what = f"post {post_id!r}: features must be {dtype} {[len(regions), meta.dim]}"
                raise PackError(what, found=f"{features.dtype} {list(features.shape)}")
            places[bucket_of(post_id, meta.n_buckets)].append(staging.tell())
            staging.write(json.dumps([post_id, regions]).encode() + b"\n" + features.tobytes())

        def read(offset: int) -> tuple[str, Objects]:
            staging.seek(offset)
            post_id, regions = json.loads(staging.readline())
            features = np.frombuffer(staging.read(len(regions) * meta.dim * dtype.itemsize), dtype)
            shape = len(regions), meta.dim
            return post_id, Objects(features.reshape(shape), tuple(Region.from_list(*values) for values in regions))

        for index in range(meta.n_buckets):  # empty ones too: then a new post changes one file, and creates none
            bucket_posts = sorted(map(read, places[index]), key=itemgetter(0))
            for (one, _), (other, _) in itertools.pairwise(bucket_posts):
                if one == other:
                    raise PackError(f"post {one!r} appears twice")
            content = bucket_bytes(bucket_posts, meta.dtype, meta.dim, bucket_note(index, meta.n_buckets))
            path, previous = new / bucket_name(index), old / bucket_name(index)
            if previous.is_file() and previous.stat().st_size == len(content) and previous.read_bytes() == content:
                with contextlib.suppress(OSError):  # no hard links on this disk
                    os.link(previous, path)  # a bucket that did not change keeps its file, and with it its time
            if not path.exists():
                path.write_bytes(content)
    atomic.write_json(new / META, {"schema_version": VERSION, **asdict(meta)})

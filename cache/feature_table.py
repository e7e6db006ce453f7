"""A table of features as it is read: its columns in the types they have here, each row checked against its post.

Features as one Parquet table: bring your own, or take ours elsewhere.

Columns: `post_id`, `source` (image, general or phrase), `text` (the phrase or general word), `word_start`, `word_end`
(null but for phrases), `x0 y0 x1 y1` (pixels; null: the object stands for no box), `score`, `features` (a list of
numbers, one width for all rows), `image_index` (may be absent: 0). Rows come in any order, any object may be missing.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cache import atomic, keys
from cache.buckets import Objects
from cache.packs import Pack, PackMeta, write_pack
from cache.tables import META, Posts
from schema.errors import DataError
from schema.records import SOURCES, Box, Post, Region, Span

TODO = "give a Parquet table; `fmit pack import --help` lists its columns, `fmit pack export` writes one to look at"
CHUNK = 4096  # rows decoded or written together
_CORNERS = ("x0", "y0", "x1", "y1")
_SMALL = pa.schema(
    [("post_id", pa.string()), ("source", pa.string()), ("text", pa.string())]
    + [(name, pa.int32()) for name in ("word_start", "word_end", *_CORNERS, "image_index")]
    + [("score", pa.float64())]
)
TABLE = pa.schema([*_SMALL, pa.field("features", pa.list_(pa.float32()))])
_KINDS = {pa.string(): "text", pa.int32(): "whole numbers", pa.float64(): "numbers"}
_INDEX = re.compile(r"__index_level_\d+__")  # what pandas writes beside the columns


class Table:
    """A table of features that is being read; every error names the file and, where it is one row's, the row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = pq.ParquetFile(path)
            schema = self._file.schema_arrow
            self._check_columns(schema)
            names = [name for name in schema.names if name in _SMALL.names]
            small = self._file.read(columns=names)
        except FileNotFoundError:
            raise DataError("no such table", where=str(path), todo="give the path of a Parquet file") from None
        except (OSError, pa.ArrowException) as error:
            raise DataError("no readable table of features", where=str(path), found=str(error), todo=TODO) from None
        self.n_rows = small.num_rows
        if not self.n_rows:
            raise DataError("the table has no rows", where=str(path), todo=TODO)
        if "image_index" not in names:
            small = small.append_column("image_index", pa.nulls(small.num_rows, pa.int32()))
        self._small = pa.table([self._column(small, field) for field in _SMALL], schema=_SMALL).combine_chunks()
        self.note = self._note((schema.metadata or {}).get(META, b"{}"))

    def spool(self, spool: IO[bytes]) -> tuple[int, bool]:
        """Write all features as float32, row by row; their width, and whether float16 would hold every number."""
        dim, at, halves = -1, 0, True
        for batch in self._file.iter_batches(CHUNK, columns=["features"]):
            column = batch.column(0)
            lengths = np.asarray(pc.list_value_length(column).fill_null(-1))
            dim = int(lengths[0]) if dim < 0 else dim
            if dim < 1 or (lengths != dim).any():
                row = 0 if dim < 1 else int(np.argmax(lengths != dim))
                what = "features of another width than in the first row" if lengths[row] > 0 else "no features"
                raise self._error(at + row, what, f"{lengths[row]} and {dim} numbers" if lengths[row] > 0 else "")
            with np.errstate(over="ignore"):
                values = np.asarray(column.flatten(), dtype=np.float64).reshape(-1, dim).astype(np.float32)
                halves = halves and bool((values.astype(np.float16) == values).all())
            finite = np.isfinite(values).all(1)
            if not finite.all():
                raise self._error(at + int(np.argmin(finite)), "features that are no finite numbers in float32")
            spool.write(values.tobytes())
            at += len(values)
        spool.flush()
        return dim, halves

    def by_post(self, posts: Sequence[Post]) -> dict[str, list[int]]:
        """Row numbers by post id; DataError for a post that the dataset lacks."""
        known, rows = {post.id for post in posts}, defaultdict(list)
        for row, post_id in enumerate(self._small.column("post_id").to_pylist()):
            if post_id not in known:
                raise self._error(row, "a post that the dataset does not have", repr(post_id))
            rows[post_id].append(row)
        return dict(rows)

    def objects(
        self, post: Post, words: Sequence[str], rows: Sequence[int], features: np.ndarray, dtype: str
    ) -> Objects:
        """A post's objects in the lattice's order: whole image and general words of each image, then phrases."""
        found: dict[Any, tuple[int, Region]] = {}
        for row, values in zip(rows, self._small.take(pa.array(rows, pa.int64())).to_pylist(), strict=True):
            region, image_index = self._region(row, values, post, words)
            place = _place(region, image_index, words)
            if place in found:
                raise self._error(row, f"an object that row {found[place][0]} has already", f"{region}")
            found[place] = (row, region)
        ordered = [found[place] for place in sorted(found)]
        chosen = features[[row for row, _ in ordered]] if ordered else features[:0]
        return Objects(chosen.astype(dtype), tuple(region for _, region in ordered))

    def _region(self, row: int, values: Mapping[str, Any], post: Post, words: Sequence[str]) -> tuple[Region, int]:
        source, text, image_index = values["source"], values["text"] or "", values["image_index"] or 0
        if source not in SOURCES:
            raise self._error(row, f"a source is one of {', '.join(SOURCES)}", repr(source))
        if source == "general" and text not in words:
            raise self._error(row, f"a general word is one of {', '.join(words)}", repr(text))
        first, end, score = values["word_start"], values["word_end"], values["score"]
        if any((given is None) == (source == "phrase") for given in (first, end)):
            what = "a phrase has word_start and word_end, other objects have neither"
            raise self._error(row, what, f"{source} with {first} and {end}")
        if score is None or not math.isfinite(score):
            raise self._error(row, "every object has a score, a finite number", str(score))
        if not 0 <= image_index < max(1, len(post.images)):
            raise self._error(row, f"post {post.id} has {len(post.images)} image(s)", f"image_index {image_index}")
        try:
            span = Span(first, end) if source == "phrase" else None
        except DataError as error:
            raise self._error(row, f"no span: {error}") from None
        if span and span.end > post.n_words:
            raise self._error(row, f"post {post.id} has {post.n_words} words", f"word_end {span.end}")
        return Region(source, text, span, self._box(row, values, post, image_index), score), image_index

    def _box(self, row: int, values: Mapping[str, Any], post: Post, image_index: int) -> Box | None:
        corners = [values[name] for name in _CORNERS]
        if corners == [None] * 4:
            return None
        if None in corners:
            raise self._error(row, f"a box has all of {', '.join(_CORNERS)}, or none", str(corners))
        if not post.images:
            raise self._error(row, f"post {post.id} names no picture, so its objects have no box", f"a box {corners}")
        try:
            x0, y0, x1, y1 = corners
            box = Box(x0, y0, x1, y1, image_index)
        except DataError as error:
            raise self._error(row, f"no box: {error}") from None
        image = post.images[image_index]
        if image.ok and (box.x1 > image.width or box.y1 > image.height):
            raise self._error(row, f"the picture is {image.width} x {image.height}", f"a box {box.xyxy}")
        return box

    def _check_columns(self, schema: pa.Schema) -> None:
        twice = {name for name in schema.names if schema.names.count(name) > 1}
        lacking = set(TABLE.names) - set(schema.names) - {"image_index"}
        unknown = {name for name in schema.names if not _INDEX.fullmatch(name)} - set(TABLE.names)
        if lacking or unknown or twice:
            raise DataError(
                f"a table of features has the columns {', '.join(TABLE.names)}",
                where=str(self._path),
                found="; ".join(
                    f"{what} {', '.join(sorted(names))}"
                    for what, names in (("without", lacking), ("with", unknown), ("twice", twice))
                    if names
                ),
                todo=TODO,
            )
        if not _holds_numbers(schema.field("features").type):
            found = str(schema.field("features").type)
            raise DataError("the column features holds lists of numbers", where=str(self._path), found=found, todo=TODO)

    def _column(self, small: pa.Table, field: pa.Field) -> pa.ChunkedArray:
        """A column in its type here; the first value that does not fit is named."""
        column = small.column(field.name)
        try:
            return column.cast(field.type)
        except pa.ArrowException as error:
            for row in range(len(column)):
                try:
                    column.slice(row, 1).cast(field.type)
                except pa.ArrowException:
                    what = f"the column {field.name} holds {_KINDS[field.type]} or null"
                    raise self._error(row, what, repr(column[row].as_py())) from None
            raise DataError(f"no column {field.name}: {error}", where=str(self._path), todo=TODO) from None

    def _note(self, text: bytes) -> dict[str, Any]:
        """What an export says of itself; nothing for a table of other makers."""
        try:
            note = json.loads(text)
            if isinstance(note, dict) and isinstance(note.get("provenance", {}), dict):
                return note
        except ValueError:
            pass
        what, todo = (
            f"the file's metadata {META.decode()!r} is not what an export writes",
            "export it again, or drop it",
        )
        raise DataError(what, where=str(self._path), found=repr(text[:80]), todo=todo)

    def _error(self, row: int, what: str, found: str = "") -> DataError:
        return DataError(what, where=f"{self._path} row {row}", found=found, todo="mend the row, then import again")


def _holds_numbers(kind: pa.DataType) -> bool:
    """Whether a column of this type has lists of numbers."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    value = kind.value_type
    return pa.types.is_floating(value) or pa.types.is_integer(value) or pa.types.is_decimal(value)


def _place(region: Region, image_index: int, words: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sorts objects as the lattice wants them; equal for two that are the same object."""
    box = region.box.xyxy if region.box else ()
    if region.span:
        return (1, region.span.start, region.span.end), box
    return (0, image_index, 1 + words.index(region.text) if region.source == "general" else 0), box


VERSION = 1
N_BUCKETS = 64


@dataclass(frozen=True)
class Imported:
    """What an import found: posts of the dataset, rows of the table, and posts that no row speaks of."""

    n_posts: int
    n_rows: int
    n_without: int
    dim: int
    dtype: str


def import_features(
    table_path: str | Path, posts: Posts, out: str | Path, *, n_buckets: int = N_BUCKETS, name: str = "imported"
) -> Imported:
    """Write a pack from a table of features, checked against the dataset's posts; a post without rows has no object.

    `name` is the pack's provenance, by which a run tells packs apart, unless the table is an export, which carries its
    own. Features are kept as float32, or as float16 where the table says so. DataError names the row that is wrong.
    """
    table = Table(Path(table_path))
    with tempfile.TemporaryFile() as spool:
        dim, halves = table.spool(spool)
        features = np.memmap(spool, np.float32, "r", shape=(table.n_rows, dim))
        dtype = "float16" if halves and table.note.get("dtype") == "float16" else "float32"
        provenance = table.note.get("provenance", {"regions": {"name": name}})
        words = posts.labels.general_words
        meta = PackMeta(dim, dtype, n_buckets, words, bool(table.note.get("synthetic", False)), provenance)
        rows = table.by_post(posts.posts)
        objects = (
            (post.id, table.objects(post, words, rows.get(post.id, []), features, dtype)) for post in posts.posts
        )
        write_pack(out, meta, objects)
    return Imported(len(posts.posts), table.n_rows, len(posts.posts) - len(rows), dim, dtype)


def export_features(pack: Pack, posts: Posts, out: str | Path) -> int:
    """Write the table of a pack's objects, posts in the dataset's order; returns its rows. Equal packs, equal bytes."""
    note = {"schema_version": VERSION, "dtype": pack.meta.dtype, "synthetic": pack.meta.synthetic}
    note |= {"general_words": list(pack.meta.general_words), "provenance": pack.meta.provenance}
    schema, n_rows = TABLE.with_metadata({META: keys.canonical(note).encode()}), 0
    rows = (row for post in posts.posts for row in _rows(post.id, pack.read(post.id)))
    with (
        atomic.file(out) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", version="2.6") as writer,
    ):
        while chunk := list(itertools.islice(rows, CHUNK)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
            n_rows += len(chunk)
    return n_rows


def _rows(post_id: str, objects: Objects) -> Iterator[dict[str, Any]]:
    for region, features in zip(objects.regions, objects.features, strict=True):
        span, box = region.span, region.box
        yield {
            "post_id": post_id,
            "source": region.source,
            "text": region.text,
            "word_start": span.start if span else None,
            "word_end": span.end if span else None,
            **dict(zip(("x0", "y0", "x1", "y1"), box.xyxy if box else [None] * 4, strict=True)),
            "image_index": box.image_index if box else None,
            "score": region.score,
            "features": features.astype(np.float32),
        }

"""Features as one Parquet table: import your own features as a pack, or export a pack's.

Columns: `post_id`, `source` (image, general or phrase), `text` (the phrase or general word), `word_start`, `word_end`
(null except for phrases), `x0 y0 x1 y1` (pixels; null: the object has no box), `score`, `features` (a list of numbers
of the same length in all rows), `image_index` (may be absent: 0). Rows come in any order, any object may be missing.
"""

import contextlib
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
from cache.packs import Objects, Pack, PackMeta, write_pack
from cache.tables import META, Posts
from schema.errors import DataError
from schema.records import CORNERS, SOURCES, Post, Region

VERSION = 1
CHUNK = 4096  # rows decoded or written together
TODO = "give a Parquet table; `fmit pack import --help` lists its columns, `fmit pack export` writes an example"
_SMALL = pa.schema(
    [("post_id", pa.string()), ("source", pa.string()), ("text", pa.string())]
    + [(name, pa.int32()) for name in ("word_start", "word_end", *CORNERS, "image_index")]
    + [("score", pa.float64())]
)
TABLE = pa.schema([*_SMALL, pa.field("features", pa.list_(pa.float32()))])
_KINDS = {pa.string(): "text", pa.int32(): "whole numbers", pa.float64(): "numbers"}
_INDEX = re.compile(r"__index_level_\d+__")  # what pandas writes beside the columns


@dataclass(frozen=True)
class Imported:
    n_posts: int  # of the dataset
    n_rows: int  # of the table
    n_without: int  # posts without a row
    dim: int
    dtype: str


def import_features(
    table_path: str | Path, posts: Posts, out: str | Path, *, n_buckets: int = 64, name: str = "imported"
) -> Imported:
    """Write a pack from a table of features, checked against the dataset's posts; DataError names a wrong row.

    `name` is the pack's provenance, by which runs distinguish packs; an exported table has its own. Features are stored
    as float32, or as float16 if the table says so and loses nothing.
    """
    table = _Table(Path(table_path), posts)
    note, rows = table.note, table.rows
    with tempfile.TemporaryFile() as staging:
        dim, fits_half = table.stage_features(staging)
        features = np.memmap(staging, np.float32, "r", shape=(table.n_rows, dim))
        dtype = "float16" if fits_half and note.get("dtype") == "float16" else "float32"
        provenance = note.get("provenance", {"regions": {"name": name}})
        is_synthetic = bool(note.get("synthetic", False))
        meta = PackMeta(dim, dtype, n_buckets, posts.labels.general_words, is_synthetic, provenance)
        write_pack(out, meta, ((post.id, table.objects(post, features, dtype)) for post in posts.posts))
    return Imported(len(posts.posts), table.n_rows, sum(not rows[post.id] for post in posts.posts), dim, dtype)


def export_features(pack: Pack, posts: Posts, out: str | Path) -> int:
    """Write the table of a pack's objects, posts in the dataset's order; returns its rows. Equal packs, equal bytes."""
    meta = pack.meta
    note = {"schema_version": VERSION, "dtype": meta.dtype, "synthetic": meta.synthetic}
    note |= {"general_words": list(meta.general_words), "provenance": meta.provenance}
    schema, n_rows = TABLE.with_metadata({META: keys.canonical(note).encode()}), 0
    rows = (row for post in posts.posts for row in _rows(post.id, pack.read(post.id)))
    options = {"compression": "zstd", "version": "2.6"}
    with atomic.file(out) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        while chunk := list(itertools.islice(rows, CHUNK)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
            n_rows += len(chunk)
    return n_rows


def _rows(post_id: str, objects: Objects) -> Iterator[dict[str, Any]]:
    for region, features in zip(objects.regions, objects.features, strict=True):
        values = region.to_json()
        words = {"word_start": values["start"], "word_end": values["end"]}
        yield {"post_id": post_id, **values, **words, "features": features.astype(np.float32)}


class _Table:
    def __init__(self, path: Path, posts: Posts) -> None:
        self._path, self._words = path, posts.labels.general_words
        try:
            self._file = pq.ParquetFile(path)
            schema = self._file.schema_arrow
            self._check_columns(schema)
            small = self._file.read(columns=[name for name in schema.names if name in _SMALL.names])
        except FileNotFoundError:
            raise DataError("no such table", where=str(path), todo="give the path of a Parquet file") from None
        except (OSError, pa.ArrowException) as error:
            raise self._table_error("not a readable table of features", str(error)) from None
        self.n_rows = small.num_rows
        if not self.n_rows:
            raise self._table_error("the table has no rows")
        if "image_index" not in small.column_names:
            small = small.append_column("image_index", pa.nulls(self.n_rows, pa.int32()))
        columns = [self._cast(small.column(field.name), field) for field in _SMALL]
        self._small = pa.table(columns, schema=_SMALL).combine_chunks()
        text = (schema.metadata or {}).get(META, b"{}")
        self.note: Any = None  # what an export says of its pack; empty for other tables
        with contextlib.suppress(ValueError):
            self.note = json.loads(text)
        if not isinstance(self.note, dict) or not isinstance(self.note.get("provenance", {}), dict):
            what = f"the file's metadata {META.decode()!r} was not written by `fmit pack export`"
            raise DataError(what, where=str(path), found=repr(text[:80]), todo="export it again, or remove it")
        post_ids = {post.id for post in posts.posts}
        self.rows: dict[str, list[int]] = defaultdict(list)  # by post id
        for row, post_id in enumerate(self._small.column("post_id").to_pylist()):
            if post_id not in post_ids:
                raise self._error(row, "the dataset has no such post", repr(post_id))
            self.rows[post_id].append(row)

    def stage_features(self, staging: IO[bytes]) -> tuple[int, bool]:
        """Write all features as float32, row by row; their width, and whether float16 would hold every number."""
        dim, row, fits_half = -1, 0, True
        for batch in self._file.iter_batches(CHUNK, columns=["features"]):
            column = batch.column(0)
            lengths = np.asarray(pc.list_value_length(column).fill_null(-1))
            dim = int(lengths[0]) if dim < 0 else dim
            bad = (lengths != dim) | (lengths < 1)
            if bad.any():
                length = int(lengths[np.argmax(bad)])
                what = "features have a different width than in the first row" if length > 0 else "no features"
                raise self._error(row + int(np.argmax(bad)), what, f"{length} and {dim} numbers" if length > 0 else "")
            with np.errstate(over="ignore"):
                values = np.asarray(column.flatten(), dtype=np.float64).reshape(-1, dim).astype(np.float32)
                fits_half = fits_half and bool((values.astype(np.float16) == values).all())
            finite = np.isfinite(values).all(1)
            if not finite.all():
                raise self._error(row + int(np.argmin(finite)), "features are not finite in float32")
            staging.write(values.tobytes())
            row += len(values)
        staging.flush()
        return dim, fits_half

    def objects(self, post: Post, features: np.ndarray, dtype: str) -> Objects:
        """A post's objects in the lattice's order: whole image and general words of each image, then phrases."""
        objects: dict[Any, tuple[int, Region]] = {}
        rows, words = self.rows[post.id], self._words
        for row, values in zip(rows, self._small.take(pa.array(rows, pa.int64())).to_pylist(), strict=True):
            try:
                region = _region(values, post, words)
            except DataError as error:
                raise self._error(row, error.what, error.found) from None
            order = (1, region.span.start, region.span.end) if region.span else (0, values["image_index"] or 0, 0)
            word = words.index(region.text) if region.source == "general" else -1
            position = (*order, word, region.box.xyxy if region.box else ())
            if position in objects:
                raise self._error(row, f"row {objects[position][0]} already has this object", f"{region}")
            objects[position] = (row, region)
        ordered = [objects[position] for position in sorted(objects)]
        numbers = features[[row for row, _ in ordered]].astype(dtype).reshape(len(ordered), features.shape[1])
        return Objects(numbers, tuple(region for _, region in ordered))

    def _check_columns(self, schema: pa.Schema) -> None:
        names = [name for name in schema.names if not _INDEX.fullmatch(name)]
        problems = {
            "without": set(TABLE.names) - set(names) - {"image_index"},
            "with": set(names) - set(TABLE.names),
            "twice": {name for name in names if names.count(name) > 1},
        }
        if found := "; ".join(f"{what} {', '.join(sorted(columns))}" for what, columns in problems.items() if columns):
            raise self._table_error(f"a table of features needs the columns {', '.join(TABLE.names)}", found)
        kind, types = schema.field("features").type, pa.types
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        numeric = (types.is_floating, types.is_integer, types.is_decimal)
        if not (is_list and any(test(kind.value_type) for test in numeric)):
            raise self._table_error("features must be lists of numbers", str(kind))

    def _cast(self, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
        """A column in the type that it has here; DataError names the first value that does not fit."""
        with contextlib.suppress(pa.ArrowException):
            return column.cast(field.type)
        row = 0
        with contextlib.suppress(pa.ArrowException):
            for row in range(self.n_rows):
                column.slice(row, 1).cast(field.type)
        what = f"the column {field.name} must hold {_KINDS[field.type]} or null"
        raise self._error(row, what, repr(column[row].as_py()))

    def _error(self, row: int, what: str, found: str = "") -> DataError:
        return DataError(what, where=f"{self._path} row {row}", found=found, todo="correct the row, then import again")

    def _table_error(self, what: str, found: str = "") -> DataError:
        return DataError(what, where=str(self._path), found=found, todo=TODO)


def _region(values: Mapping[str, Any], post: Post, words: Sequence[str]) -> Region:
    source, text, image_index = values["source"], values["text"] or "", values["image_index"] or 0
    start, end, score, n_images = values["word_start"], values["word_end"], values["score"], len(post.images)
    corners = [values[name] for name in CORNERS]
    has_box = corners != [None] * 4
    needed = "word_start and word_end are required for phrases and not allowed otherwise"
    is_placed = (start is None) == (end is None) == (source != "phrase")
    for is_right, what, found in (
        (source in SOURCES, f"unknown source, use one of {', '.join(SOURCES)}", repr(source)),
        (source != "general" or text in words, f"unknown general word, use one of {', '.join(words)}", repr(text)),
        (is_placed, needed, f"{source} with {start} and {end}"),
        (score is not None and math.isfinite(score), "the score must be a finite number", str(score)),
        (0 <= image_index < max(1, n_images), f"post {post.id} has {n_images} image(s)", f"image_index {image_index}"),
        (end is None or end <= post.n_words, f"post {post.id} has {post.n_words} words", f"word_end {end}"),
        (not has_box or None not in corners, f"a box needs all of {', '.join(CORNERS)}, or none of them", str(corners)),
        (not has_box or n_images, f"post {post.id} has no image: remove the box", f"a box {corners}"),
    ):
        if not is_right:
            raise DataError(what, found=found)
    region = Region.from_json({**values, "text": text, "start": start, "end": end, "image_index": image_index})
    if region.box:
        box, image = region.box, post.images[image_index]
        if image.ok and (box.x1 > image.width or box.y1 > image.height):
            raise DataError(f"the image is {image.width} x {image.height}", found=f"a box {box.xyxy}")
    return region

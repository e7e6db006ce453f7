"""Parquet tables with declared schemas, the outputs of the stages. Equal rows give equal bytes."""

import contextlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from cache import atomic, keys
from schema.errors import DataError
from schema.labels import LabelSet
from schema.records import Image, Phrase, Post, PostPhrases, Region, Span

Value = TypeVar("Value")
SCHEMA_VERSION = 1
META = b"fmit"  # our entry in the Parquet file's metadata: canonical JSON of schema version and the writer's notes
ROW_GROUP = 8192  # rows
READ_ROWS = 1024  # that are in memory together while a table is read
WRITERS = {"posts.parquet": "ingest", "phrases.parquet": "phrases", "boxes.parquet": "ground"}  # the stages

_TEXT, _INT, _BOOL = pa.string(), pa.int32(), pa.bool_()
_TEXTS, _INTS = pa.list_(_TEXT), pa.list_(_INT)
_IMAGE = pa.struct(
    {"name": _TEXT, "digest": _TEXT, "width": _INT, "height": _INT, "state": _TEXT, "reason": _TEXT, "synthetic": _BOOL}
)
_PHRASE = pa.struct({"start": _INT, "end": _INT, "text": _TEXT, "label": _TEXT})
POSTS = pa.schema(
    {"id": _TEXT, "split": _TEXT, "words": _TEXTS, "tags": _TEXTS, "text": _TEXT}
    | {"starts": _INTS, "ends": _INTS, "images": pa.list_(_IMAGE), "source_id": _TEXT}
)
PHRASES = pa.schema({"post_id": _TEXT, "phrases": pa.list_(_PHRASE), "fallback": _TEXT, "n_cut": _INT})
BOXES = pa.schema(
    {"post_id": _TEXT, "source": _TEXT, "text": _TEXT, "start": _INT, "end": _INT, "image_index": _INT}
    | {"x0": _INT, "y0": _INT, "x1": _INT, "y1": _INT, "score": pa.float32(), "clamped": _BOOL, "grounder": _TEXT}
)


@dataclass(frozen=True)
class Posts:
    posts: list[Post]  # of a dataset, in order
    labels: LabelSet
    meta: dict[str, Any] = field(default_factory=dict)  # the writer's notes


def write(path: str | Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema, meta: Mapping[str, Any]) -> None:
    """Publish rows as a Parquet table, a row group at a time; `meta` is JSON and may change until the last row is read.

    DataError if a row does not fit the schema.
    """
    with atomic.file(path) as temporary, tempfile.TemporaryFile(dir=temporary.parent) as staging:
        with pq.ParquetWriter(staging, schema) as writer:
            for group in batched(rows, ROW_GROUP):
                try:
                    table = pa.Table.from_pylist(group, schema=schema)
                except (pa.ArrowException, TypeError, ValueError) as error:
                    raise DataError(f"a row does not fit the table: {error}", where=str(path)) from None
                writer.write_table(table, ROW_GROUP)
        note = keys.canonical({"schema_version": SCHEMA_VERSION, "meta": dict(meta)})
        final, file = schema.with_metadata({META: note.encode()}), pq.ParquetFile(staging)
        options = {"compression": "zstd", "version": "2.6", "write_page_checksum": True}
        with pq.ParquetWriter(temporary, final, **options) as writer:  # which writes the metadata first
            for number in range(file.num_row_groups):
                writer.write_table(file.read_row_group(number).replace_schema_metadata(final.metadata), ROW_GROUP)


def n_rows(path: str | Path) -> int:
    with _reading(path):
        return pq.read_metadata(path).num_rows


def batched(values: Iterable[Value], n_values: int) -> Iterator[list[Value]]:
    """Lists of `n_values`, the last may be shorter; one empty list if there are no values."""
    rest = iter(values)
    lists = iter(lambda: list(itertools.islice(rest, n_values)), [])
    return itertools.chain([next(lists, [])], lists)


def read(path: str | Path, schema: pa.Schema) -> tuple[Iterator[dict[str, Any]], dict[str, Any]]:
    """Rows, read on request, and metadata of a table; DataError if it is missing, damaged or has a different layout."""
    with _reading(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
    found, note = file.schema_arrow, None
    with contextlib.suppress(ValueError):
        note = json.loads((found.metadata or {}).get(META, b"{}"))
    version = note.get("schema_version") if isinstance(note, dict) and isinstance(note.get("meta"), dict) else None
    if note is None or version != SCHEMA_VERSION or not found.equals(schema, check_metadata=False):
        what = f"the table has a different layout: version {SCHEMA_VERSION} with {', '.join(schema.names)} is needed"
        text = f"version {version} with {', '.join(found.names)}"
        raise DataError(what, where=str(path), found=text, todo="run its stage again with this version")
    return _rows(path, file), note["meta"]


def _rows(path: str | Path, file: pq.ParquetFile) -> Iterator[dict[str, Any]]:
    with file, _reading(path):
        for batch in file.iter_batches(READ_ROWS, use_threads=False):
            yield from batch.to_pylist()


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        writer = WRITERS.get(Path(path).name)
        todo = f"`fmit {writer}` writes it" if writer else "run the stage that writes it"
        raise DataError("no such table", where=str(path), todo=todo) from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"not a readable table: {error}", where=str(path), todo="run its stage again") from None


class Lookup(Generic[Value]):
    """Values by post id of a table that is read only as far as needed: few wait if it has the order of the posts."""

    def __init__(self, rows: Iterator[tuple[str, Value]]) -> None:
        self._rows, self._waiting = rows, dict[str, Value]()

    def take(self, post_ids: Iterable[str]) -> dict[str, Value]:
        """The values of those of the posts that the table has; each can be taken once."""
        taken = {}
        for post_id in post_ids:
            while post_id not in self._waiting and (row := next(self._rows, None)):
                self._waiting.update([row])
            if post_id in self._waiting:
                taken[post_id] = self._waiting.pop(post_id)
        return taken


def write_posts(path: str | Path, posts: Iterable[Post], labels: LabelSet, meta: Mapping[str, Any]) -> None:
    # as pairs: canonical JSON sorts names, and the order of types decides tags and objects
    pairs = [[list(pair) for pair in part.items()] for part in (labels.words, labels.aliases)]
    rows = (
        {name: getattr(post, name) for name in ("id", "split", "words", "tags", "text", "source_id")}
        | dict(zip(("starts", "ends"), zip(*post.offsets, strict=True), strict=True))
        | {"images": [asdict(image) for image in post.images]}
        for post in posts
    )
    write(path, rows, POSTS, {"labels": pairs, "note": dict(meta)})


def read_posts(path: str | Path) -> Posts:
    posts, labels, meta = stream_posts(path)
    return Posts(list(posts), labels, meta)


def stream_posts(path: str | Path) -> tuple[Iterator[Post], LabelSet, dict[str, Any]]:
    """Posts, read as they are requested; the labels; the writer's notes."""
    rows, meta = read(path, POSTS)
    types, aliases = meta["labels"]
    return map(_post, rows), LabelSet(dict(types), dict(aliases)), meta["note"]


def _post(row: dict[str, Any]) -> Post:
    row["offsets"] = tuple(zip(row.pop("starts"), row.pop("ends"), strict=True))
    row["tags"] = None if row["tags"] is None else tuple(map(sys.intern, row["tags"]))
    row["words"] = tuple(map(sys.intern, row["words"]))  # equal words of a dataset are one object
    return Post(**row | {"images": tuple(Image(**image) for image in row["images"])})


def write_phrases(path: str | Path, posts: Iterable[PostPhrases], meta: Mapping[str, Any]) -> None:
    rows = (
        {"post_id": post.post_id, "fallback": post.fallback, "n_cut": post.n_cut}
        | {"phrases": [{**asdict(one.span), "text": one.text, "label": one.label} for one in post.phrases]}
        for post in posts
    )
    write(path, rows, PHRASES, meta)


def read_phrases(path: str | Path) -> tuple[list[PostPhrases], dict[str, Any]]:
    posts, meta = stream_phrases(path)
    return list(posts), meta


def stream_phrases(path: str | Path) -> tuple[Iterator[PostPhrases], dict[str, Any]]:
    def post(row: dict[str, Any]) -> PostPhrases:
        phrases = (Phrase(Span(p["start"], p["end"]), p["text"], p["label"]) for p in row["phrases"])
        return PostPhrases(row["post_id"], tuple(phrases), row["fallback"], row["n_cut"])

    rows, meta = read(path, PHRASES)
    return map(post, rows), meta


def write_boxes(path: str | Path, boxes: Iterable[tuple[str, Sequence[Region]]], meta: Mapping[str, Any]) -> None:
    """Publish `boxes.parquet`: the regions that a grounder chose, by post id. Scores are stored as float32."""
    rows = (
        {"post_id": post_id, **region.to_json(), "clamped": region.clamped, "grounder": region.grounder}
        for post_id, regions in boxes
        for region in regions
    )
    write(path, rows, BOXES, meta)


def read_boxes(path: str | Path) -> tuple[dict[str, list[Region]], dict[str, Any]]:
    """The regions of `boxes.parquet` by post id, and its metadata."""
    boxes, meta = stream_boxes(path)
    return dict(boxes), meta


def stream_boxes(path: str | Path) -> tuple[Iterator[tuple[str, list[Region]]], dict[str, Any]]:
    """The regions of one post after another, and the table's metadata."""
    rows, meta = read(path, BOXES)
    boxes = (
        (post_id, [replace(Region.from_json(row), clamped=row["clamped"], grounder=row["grounder"]) for row in group])
        for post_id, group in itertools.groupby(rows, itemgetter("post_id"))
    )
    return boxes, meta

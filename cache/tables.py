"""Parquet tables with declared schemas, the outputs of the stages. Equal rows give equal bytes.

A table's own metadata (schema version, and what the writer adds) is canonical JSON under the name `fmit`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cache import atomic, keys
from schema.errors import DataError
from schema.labels import LabelSet
from schema.records import Image, Phrase, Post, PostPhrases, Region, Span

SCHEMA_VERSION = 1
META = b"fmit"  # our entry in the Parquet file's own metadata
ROW_GROUP = 8192  # rows
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
    {
        "post_id": pa.string(),
        "source": pa.string(),
        "text": pa.string(),
        "start": pa.int32(),
        "end": pa.int32(),
        "image_index": pa.int32(),
        "x0": pa.int32(),
        "y0": pa.int32(),
        "x1": pa.int32(),
        "y1": pa.int32(),
        "score": pa.float32(),
        "clamped": pa.bool_(),
        "grounder": pa.string(),
    }
)


@dataclass(frozen=True)
class Posts:
    """A dataset as ingest wrote it: posts in order, the label set they use, and the writer's notes."""

    posts: list[Post]
    labels: LabelSet
    meta: dict[str, Any] = field(default_factory=dict)


def write(path: str | Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema, meta: Mapping[str, Any]) -> None:
    """Publish rows as a Parquet table; `meta` is JSON. DataError if a row does not fit the schema."""
    try:
        table = pa.Table.from_pylist(list(rows), schema=schema)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"a row does not fit the table: {error}", where=str(path)) from None
    note = keys.canonical({"schema_version": SCHEMA_VERSION, "meta": dict(meta)})
    table = table.replace_schema_metadata({META: note.encode()})
    options = {"compression": "zstd", "version": "2.6", "row_group_size": ROW_GROUP, "write_page_checksum": True}
    with atomic.file(path) as temporary:
        pq.write_table(table, temporary, **options)


def read(path: str | Path, schema: pa.Schema) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and metadata of a table; DataError if it is missing, damaged, or of another schema or version."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
    except FileNotFoundError:
        writer = WRITERS.get(Path(path).name)
        todo = f"`fmit {writer}` writes it" if writer else "run the stage that writes it"
        raise DataError("no such table", where=str(path), todo=todo) from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"not a readable table: {error}", where=str(path), todo="run its stage again") from None
    note = _note(table.schema)
    if note.get("schema_version") != SCHEMA_VERSION or not table.schema.equals(schema, check_metadata=False):
        raise DataError(
            f"a table of another layout: version {SCHEMA_VERSION} with {', '.join(schema.names)} is needed",
            where=str(path),
            found=f"version {note.get('schema_version')} with {', '.join(table.schema.names)}",
            todo="run its stage again with this version",
        )
    return table.to_pylist(), note["meta"]


def _note(schema: pa.Schema) -> dict[str, Any]:
    """What `write` noted; empty for other tables."""
    try:
        note = json.loads((schema.metadata or {}).get(META, b"{}"))
    except ValueError:
        return {}
    return note if isinstance(note, dict) and isinstance(note.get("meta"), dict) else {}


def write_posts(path: str | Path, posts: Iterable[Post], labels: LabelSet, meta: Mapping[str, Any]) -> None:
    """Publish `posts.parquet`."""
    # as pairs: canonical JSON sorts names, and the order of types decides tags and objects
    pairs = [[list(pair) for pair in part.items()] for part in (labels.words, labels.aliases)]
    write(path, map(_post_row, posts), POSTS, {"labels": pairs, "note": dict(meta)})


def read_posts(path: str | Path) -> Posts:
    """The posts of `posts.parquet`, checked again as records."""
    rows, meta = read(path, POSTS)
    types, aliases = meta["labels"]
    return Posts([_post(row) for row in rows], LabelSet(dict(types), dict(aliases)), meta["note"])


def _post_row(post: Post) -> dict[str, Any]:
    row = {name: getattr(post, name) for name in ("id", "split", "words", "tags", "text", "source_id")}
    starts, ends = zip(*post.offsets, strict=True)
    return row | {"starts": starts, "ends": ends, "images": [asdict(image) for image in post.images]}


def _post(row: Mapping[str, Any]) -> Post:
    offsets = tuple(zip(row["starts"], row["ends"], strict=True))
    tags = None if row["tags"] is None else tuple(row["tags"])
    images = tuple(Image(**image) for image in row["images"])
    return Post(row["id"], row["split"], tuple(row["words"]), row["text"], offsets, tags, images, row["source_id"])


def write_phrases(path: str | Path, posts: Iterable[PostPhrases], meta: Mapping[str, Any]) -> None:
    """Publish `phrases.parquet`, one row per post."""
    write(path, map(_phrases_row, posts), PHRASES, meta)


def read_phrases(path: str | Path) -> tuple[list[PostPhrases], dict[str, Any]]:
    """The noun phrases of `phrases.parquet`, and its metadata."""
    rows, meta = read(path, PHRASES)
    return [_post_phrases(row) for row in rows], meta


def _phrases_row(post: PostPhrases) -> dict[str, Any]:
    phrases = [
        {"start": phrase.span.start, "end": phrase.span.end, "text": phrase.text, "label": phrase.label}
        for phrase in post.phrases
    ]
    return {"post_id": post.post_id, "phrases": phrases, "fallback": post.fallback, "n_cut": post.n_cut}


def _post_phrases(row: Mapping[str, Any]) -> PostPhrases:
    phrases = [Phrase(Span(one["start"], one["end"]), one["text"], one["label"]) for one in row["phrases"]]
    return PostPhrases(row["post_id"], tuple(phrases), row["fallback"], row["n_cut"])


def write_boxes(path: str | Path, boxes: Mapping[str, Sequence[Region]], meta: Mapping[str, Any]) -> None:
    """Publish `boxes.parquet`: the regions that a grounder chose, by post id. Scores are stored as float32."""
    rows = (
        {"post_id": post_id, **region.to_json(), "clamped": region.clamped, "grounder": region.grounder}
        for post_id, regions in boxes.items()
        for region in regions
    )
    write(path, rows, BOXES, meta)


def read_boxes(path: str | Path) -> tuple[dict[str, list[Region]], dict[str, Any]]:
    """The regions of `boxes.parquet` by post id, and its metadata."""
    rows, meta = read(path, BOXES)
    boxes: dict[str, list[Region]] = defaultdict(list)
    for row in rows:
        region = replace(Region.from_json(row), clamped=row["clamped"], grounder=row["grounder"])
        boxes[row["post_id"]].append(region)
    return dict(boxes), meta

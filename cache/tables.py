"""Parquet tables with declared schemas: the outs that stages hand on. Equal rows give equal bytes.

A table's own metadata (schema version, and what the writer adds) is canonical JSON under the name `fmit`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cache import atomic, keys
from schema.errors import DataError
from schema.labels import LabelSet
from schema.records import Box, Grounded, Image, Phrase, Post, PostPhrases, Span

SCHEMA_VERSION = 1
META = b"fmit"  # name of our entry in the Parquet file's own metadata
ROW_GROUP = 8192  # rows
WRITERS = {"posts.parquet": "ingest", "phrases.parquet": "phrases", "boxes.parquet": "ground"}  # the stage of each

_IMAGE = pa.struct(
    {
        "name": pa.string(),
        "digest": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "state": pa.string(),
        "reason": pa.string(),
        "synthetic": pa.bool_(),
    }
)
_PHRASE = pa.struct({"start": pa.int32(), "end": pa.int32(), "text": pa.string(), "label": pa.string()})

POSTS = pa.schema(
    {
        "id": pa.string(),
        "split": pa.string(),
        "words": pa.list_(pa.string()),
        "tags": pa.list_(pa.string()),
        "text": pa.string(),
        "starts": pa.list_(pa.int32()),
        "ends": pa.list_(pa.int32()),
        "images": pa.list_(_IMAGE),
        "source_id": pa.string(),
    }
)
PHRASES = pa.schema(
    {"post_id": pa.string(), "phrases": pa.list_(_PHRASE), "fallback": pa.string(), "n_cut": pa.int32()}
)
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
    """A dataset as ingest wrote it: posts in order, the label set they use, and what the writer noted."""

    posts: list[Post]
    labels: LabelSet
    meta: dict[str, Any] = field(default_factory=dict)


def write(path: str | Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema, meta: Mapping[str, Any]) -> None:
    """Publish rows as a Parquet table; `meta` is JSON. DataError where a row does not fit the schema."""
    try:
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"a row does not fit the table: {error}", where=str(path)) from None
    note = keys.canonical({"schema_version": SCHEMA_VERSION, "meta": dict(meta)})
    with atomic.file(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata({META: note.encode()}),
            temporary,
            compression="zstd",
            version="2.6",
            row_group_size=ROW_GROUP,
            write_page_checksum=True,
        )


def read(path: str | Path, schema: pa.Schema) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and metadata of a table; DataError when it is missing, damaged, or of another schema or version."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
    except FileNotFoundError:
        writer = WRITERS.get(Path(path).name)
        todo = f"`fmit {writer}` writes it" if writer else "run the stage that writes it"
        raise DataError("no such table", where=str(path), todo=todo) from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"no readable table: {error}", where=str(path), todo="run its stage again") from None
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
    """What `write` noted; {} for a table of other makers."""
    try:
        note = json.loads((schema.metadata or {}).get(META, b"{}"))
    except ValueError:
        return {}
    return note if isinstance(note, dict) and isinstance(note.get("meta"), dict) else {}


def write_posts(path: str | Path, posts: Iterable[Post], labels: LabelSet, meta: Mapping[str, Any]) -> None:
    """Publish `posts.parquet`."""
    write(path, (_post_row(post) for post in posts), POSTS, {"labels": _ordered(labels), "note": dict(meta)})


def read_posts(path: str | Path) -> Posts:
    """The posts of `posts.parquet`, checked again as records."""
    rows, meta = read(path, POSTS)
    types, aliases = meta["labels"]
    return Posts([_post(row) for row in rows], LabelSet(dict(types), dict(aliases)), meta["note"])


def write_phrases(path: str | Path, found: Iterable[PostPhrases], meta: Mapping[str, Any]) -> None:
    """Publish `phrases.parquet`, one row a post."""
    write(path, (_phrases_row(one) for one in found), PHRASES, meta)


def read_phrases(path: str | Path) -> tuple[list[PostPhrases], dict[str, Any]]:
    """The noun phrases of `phrases.parquet`."""
    rows, meta = read(path, PHRASES)
    return [
        PostPhrases(
            row["post_id"],
            tuple(Phrase(Span(one["start"], one["end"]), one["text"], one["label"]) for one in row["phrases"]),
            row["fallback"],
            row["n_cut"],
        )
        for row in rows
    ], meta


def write_boxes(path: str | Path, boxes: Iterable[Grounded], meta: Mapping[str, Any]) -> None:
    """Publish `boxes.parquet`, one row a grounder's choice. Scores are kept as float32."""
    write(path, (_box_row(one) for one in boxes), BOXES, meta)


def read_boxes(path: str | Path) -> tuple[list[Grounded], dict[str, Any]]:
    """The boxes of `boxes.parquet`."""
    rows, meta = read(path, BOXES)
    return [
        Grounded(
            row["post_id"],
            row["source"],
            row["text"],
            None if row["start"] is None else Span(row["start"], row["end"]),
            Box(row["x0"], row["y0"], row["x1"], row["y1"], row["image_index"]),
            row["score"],
            row["clamped"],
            row["grounder"],
        )
        for row in rows
    ], meta


def _ordered(labels: LabelSet) -> list[list[list[str]]]:
    """As pairs: canonical JSON sorts names, and the order of types decides tags and objects."""
    return [[list(pair) for pair in part.items()] for part in (labels.words, labels.aliases)]


def _post_row(post: Post) -> dict[str, Any]:
    return {
        "id": post.id,
        "split": post.split,
        "words": list(post.words),
        "tags": None if post.tags is None else list(post.tags),
        "text": post.text,
        "starts": [start for start, _ in post.offsets],
        "ends": [end for _, end in post.offsets],
        "images": [asdict(image) for image in post.images],
        "source_id": post.source_id,
    }


def _post(row: Mapping[str, Any]) -> Post:
    return Post(
        row["id"],
        row["split"],
        tuple(row["words"]),
        row["text"],
        tuple(zip(row["starts"], row["ends"], strict=True)),
        None if row["tags"] is None else tuple(row["tags"]),
        tuple(Image(**image) for image in row["images"]),
        row["source_id"],
    )


def _phrases_row(one: PostPhrases) -> dict[str, Any]:
    phrases: Sequence[Phrase] = one.phrases
    return {
        "post_id": one.post_id,
        "phrases": [
            {"start": phrase.span.start, "end": phrase.span.end, "text": phrase.text, "label": phrase.label}
            for phrase in phrases
        ],
        "fallback": one.fallback,
        "n_cut": one.n_cut,
    }


def _box_row(one: Grounded) -> dict[str, Any]:
    x0, y0, x1, y1 = one.box.xyxy
    return {
        "post_id": one.post_id,
        "source": one.source,
        "text": one.text,
        "start": one.span.start if one.span else None,
        "end": one.span.end if one.span else None,
        "image_index": one.box.image_index,
        "x0": x0,
        "y0": y0,
        "x1": x1,
        "y1": y1,
        "score": one.score,
        "clamped": one.clamped,
        "grounder": one.grounder,
    }

"""Parquet tables with declared schemas, the outputs of the stages. Equal rows give equal bytes."""

import contextlib
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
META = b"fmit"  # our entry in the Parquet file's metadata: canonical JSON of schema version and the writer's notes
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
    {"post_id": _TEXT, "source": _TEXT, "text": _TEXT, "start": _INT, "end": _INT, "image_index": _INT}
    | {"x0": _INT, "y0": _INT, "x1": _INT, "y1": _INT, "score": pa.float32(), "clamped": _BOOL, "grounder": _TEXT}
)


@dataclass(frozen=True)
class Posts:
    posts: list[Post]  # of a dataset, in order
    labels: LabelSet
    meta: dict[str, Any] = field(default_factory=dict)  # the writer's notes


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
    """Rows and metadata of a table; DataError if it is missing, damaged or has a different schema or version."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
    except FileNotFoundError:
        writer = WRITERS.get(Path(path).name)
        todo = f"`fmit {writer}` writes it" if writer else "run the stage that writes it"
        raise DataError("no such table", where=str(path), todo=todo) from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"not a readable table: {error}", where=str(path), todo="run its stage again") from None
    note: Any = None
    with contextlib.suppress(ValueError):
        note = json.loads((table.schema.metadata or {}).get(META, b"{}"))
    version = note.get("schema_version") if isinstance(note, dict) and isinstance(note.get("meta"), dict) else None
    if version != SCHEMA_VERSION or not table.schema.equals(schema, check_metadata=False):
        what = f"the table has a different layout: version {SCHEMA_VERSION} with {', '.join(schema.names)} is needed"
        found = f"version {version} with {', '.join(table.schema.names)}"
        raise DataError(what, where=str(path), found=found, todo="run its stage again with this version")
    return table.to_pylist(), note["meta"]


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
    rows, meta = read(path, POSTS)
    types, aliases = meta["labels"]
    posts = []
    for row in rows:
        row["offsets"] = tuple(zip(row.pop("starts"), row.pop("ends"), strict=True))
        row["tags"] = None if row["tags"] is None else tuple(row["tags"])
        row["images"] = tuple(Image(**image) for image in row["images"])
        posts.append(Post(**row | {"words": tuple(row["words"])}))
    return Posts(posts, LabelSet(dict(types), dict(aliases)), meta["note"])


def write_phrases(path: str | Path, posts: Iterable[PostPhrases], meta: Mapping[str, Any]) -> None:
    rows = []
    for post in posts:
        phrases = [{**asdict(phrase.span), "text": phrase.text, "label": phrase.label} for phrase in post.phrases]
        rows.append({"post_id": post.post_id, "phrases": phrases, "fallback": post.fallback, "n_cut": post.n_cut})
    write(path, rows, PHRASES, meta)


def read_phrases(path: str | Path) -> tuple[list[PostPhrases], dict[str, Any]]:
    rows, meta = read(path, PHRASES)
    posts = []
    for row in rows:
        phrases = (Phrase(Span(p["start"], p["end"]), p["text"], p["label"]) for p in row["phrases"])
        posts.append(PostPhrases(row["post_id"], tuple(phrases), row["fallback"], row["n_cut"]))
    return posts, meta


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

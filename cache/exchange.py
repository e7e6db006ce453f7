"""Features as one Parquet table: bring your own, or take ours elsewhere.

Columns: `post_id`, `source` (image, general or phrase), `text` (the phrase or general word), `word_start`, `word_end`
(null but for phrases), `x0 y0 x1 y1` (pixels; null: the object stands for no box), `score`, `features` (a list of
numbers, one width for all rows), `image_index` (may be absent: 0). Rows come in any order, any object may be missing.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cache import atomic, keys
from cache.buckets import Objects
from cache.feature_table import CHUNK, TABLE, Table
from cache.packs import Pack, PackMeta, write_pack
from cache.tables import META, Posts

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
        meta = PackMeta(dim, dtype, n_buckets, words, bool(table.note.get("toy", False)), provenance)
        rows = table.by_post(posts.posts)
        objects = (
            (post.id, table.objects(post, words, rows.get(post.id, []), features, dtype)) for post in posts.posts
        )
        write_pack(out, meta, objects)
    return Imported(len(posts.posts), table.n_rows, len(posts.posts) - len(rows), dim, dtype)


def export_features(pack: Pack, posts: Posts, out: str | Path) -> int:
    """Write the table of a pack's objects, posts in the dataset's order; returns its rows. Equal packs, equal bytes."""
    note = {"schema_version": VERSION, "dtype": pack.meta.dtype, "toy": pack.meta.toy}
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

"""Rewriting shards: small ones joined, unwanted rows left out. The new shard is safe before an old one goes.

Two that compact at once lose nothing: each removes only shards whose rows it has published itself.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import keys
from cache.catalog import Catalog
from cache.codecs import codec_for, codec_of, open_shard
from cache.shards import Damaged, Newer
from cache.shelf import Shelf, shelves, unlink


@dataclass(frozen=True)
class Compacted:
    """Shards before and after, and rows that were there twice."""

    n_before: int
    n_after: int
    n_repeats: int


@dataclass(frozen=True)
class Forgotten:
    """Rows removed, shards rewritten or removed for it, and `n_left`: rows of these keys that a last look found, 0."""

    n_rows: int
    n_shards: int
    n_left: int


def compact(folder: str | Path) -> Compacted:
    """Join the small shards of each producer; a row that is there twice is kept once.

    Shards of a later version stay as they are.
    """
    n_before = n_after = n_repeats = 0
    for shelf in shelves(Path(folder)):
        n_before += len(shelf.names())
        for group in _groups(shelf):
            n_repeats += _join(shelf, group)
        n_after += len(shelf.names())
        _renew_index(shelf)
    return Compacted(n_before, n_after, n_repeats)


def forget(folder: str | Path, unwanted: Collection[str]) -> Forgotten:
    """Remove rows by key, rewriting their shards; ends with a look at every key of every shard that is left.

    Quarantined shards go as a whole, for what they hold cannot be told. Not to be run while others compact or pull:
    they may carry a row past the last look. Raises Newer, with nothing removed, where a shard is of a later version.
    """
    packed = np.unique(keys.pack_keys(unwanted))
    n_rows = n_shards = n_left = 0
    for shelf in shelves(Path(folder)):
        for name in shelf.names():  # before anything is changed
            with _skipped(shelf, name, newer=False), open_shard(shelf, name):
                pass
    for shelf in shelves(Path(folder)):
        unlink(shelf.index.glob("*"))
        for name in sorted(shelf.names()):
            with _skipped(shelf, name):
                removed = _leave_out(shelf, name, packed)
                n_rows, n_shards = n_rows + removed, n_shards + (removed > 0)
        for name in shelf.names():
            with _skipped(shelf, name), open_shard(shelf, name) as reader:
                n_left += int(np.isin(reader.keys(), packed).sum())
        unlink(shelf.quarantine.glob("*"))
        _renew_index(shelf)
    return Forgotten(n_rows, n_shards, n_left)


def _groups(shelf: Shelf) -> list[list[str]]:
    """Shards to join: of one note, each under half the size that joined ones may have."""
    by_note: dict[str, list[tuple[int, str]]] = defaultdict(list)
    limit = 0
    for name, size in sorted(shelf.names().items()):
        with _skipped(shelf, name):
            limit = codec_of(shelf, name).compact_bytes
            if size <= limit // 2:
                with open_shard(shelf, name) as reader:
                    by_note[reader.note].append((size, name))
    groups: list[list[str]] = []
    for members in by_note.values():
        total = limit
        for size, name in sorted(members):
            if total + size > limit:
                groups.append([])
                total = 0
            groups[-1].append(name)
            total += size
    return [group for group in groups if len(group) > 1]


def _join(shelf: Shelf, group: list[str]) -> int:
    """Publish one shard with the rows of all these, then remove them; returns how many rows were there twice."""
    rows: dict[str, Any] = {}
    read, n_repeats, note, used_at = [], 0, "", 0.0
    for name in sorted(group):
        with _skipped(shelf, name):
            found, note = _rows(shelf, name)
            used_at = max(used_at, shelf.path(name).stat().st_mtime)
            n_repeats += len(rows.keys() & found.keys())
            rows = {**found, **rows}  # the first shard by name has the word, as in the index
            read.append(name)
    if len(read) < 2:
        return 0
    _publish(shelf, read, rows, note, used_at)
    return n_repeats


def _leave_out(shelf: Shelf, name: str, packed: np.ndarray) -> int:
    """Rewrite one shard without these keys, if it has any; returns how many rows went."""
    with open_shard(shelf, name) as reader:
        n_unwanted = int(np.isin(reader.keys(), packed).sum())
    if n_unwanted:
        rows, note = _rows(shelf, name)
        kept = {key: rows[key] for key in rows.keys() - set(keys.unpack_keys(packed))}
        _publish(shelf, [name], kept, note, shelf.path(name).stat().st_mtime)
    return n_unwanted


def _rows(shelf: Shelf, name: str) -> tuple[dict[str, Any], str]:
    """All rows of a shard, checked, and its note."""
    with open_shard(shelf, name, "always") as reader:
        packed = reader.keys()
        raw, width = packed.tobytes(), keys.KEY_BYTES
        expected = [raw[at : at + width] for at in range(0, len(raw), width)]
        values = reader.read(range(len(expected)), expected)
        return dict(zip(keys.unpack_keys(packed), values, strict=True)), reader.note


def _publish(shelf: Shelf, old: list[str], rows: dict[str, Any], note: str, used_at: float) -> None:
    codec = codec_of(shelf, old[0])
    new = shelf.publish(codec.encode(rows, note)) if rows else ""
    if new:
        with contextlib.suppress(OSError):
            os.utime(shelf.path(new), (used_at, used_at))  # moving rows is no use of them
    unlink(shelf.path(name) for name in old if name != new)


@contextlib.contextmanager
def _skipped(shelf: Shelf, name: str, *, newer: bool = True) -> Any:
    """Work on one shard that may have gone, be of a later version (`newer`), or be damaged: then it is set aside."""
    try:
        yield
    except FileNotFoundError:
        pass
    except Newer:
        if not newer:
            raise
    except Damaged as error:
        shelf.set_aside(name, error.what)


def _renew_index(shelf: Shelf) -> None:
    """Drop the index files and, where there are many shards, write a new one."""
    unlink(shelf.index.glob("*.h5"))
    codec = codec_for(shelf)
    if codec:
        Catalog(shelf, codec, "never").save()

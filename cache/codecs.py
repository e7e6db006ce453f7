"""Opening a shard without knowing beforehand what it holds: upkeep works on any shelf."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from cache.rowshards import RowCodec, RowReader
from cache.shards import ArrayCodec, ArrayReader, Check, Damaged, Newer
from cache.shelf import Shelf


def codec_of(shelf: Shelf, name: str) -> ArrayCodec | RowCodec:
    """The codec of one shard; FileNotFoundError when it has gone, Damaged when it is none of its kind, Newer."""
    return ArrayCodec() if shelf.folder.name == ArrayCodec.kind else RowCodec.of(shelf.path(name))


def codec_for(shelf: Shelf) -> ArrayCodec | RowCodec | None:
    """The codec of a shelf's shards, by the first of them that can be read; None when there is none such."""
    for name in shelf.names():
        with contextlib.suppress(FileNotFoundError, Damaged, Newer):
            return codec_of(shelf, name)
    return None


@contextlib.contextmanager
def open_shard(shelf: Shelf, name: str, check: Check = "never") -> Iterator[ArrayReader | RowReader]:
    """A shard's reader; FileNotFoundError when it has gone, Damaged when it is no whole shard, Newer."""
    with contextlib.closing(codec_of(shelf, name).open(shelf.path(name), check)) as reader:
        yield reader


def name_of(producer: Mapping[str, Any]) -> str:
    """What a producer calls itself: a parser says `parser`, every other part `name`."""
    return str(producer.get("name") or producer.get("parser") or "unnamed")


def producer_of(note: str) -> dict[str, Any]:
    """What a shard's note says of who computed its rows."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return dict(json.loads(note)["producer"])
    return {}

"""Taking rows back from a remote: what was pushed there and should be nowhere any more.

A shard that holds an unwanted row is fetched, rewritten without it here, sent under its new name, and only then
removed.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from cache import keys, remotes, rewrite
from cache.rewrite import Forgotten
from cache.shards import Damaged
from cache.shelf import Shelf
from cache.transports import Transport, transport_of

# Of a team's folder that is store and remote at once: an index names keys, what is set aside holds nobody knows what.
_BESIDE = re.compile(r"(?:[\w.-]+/)*(?:arrays|rows-[0-9a-f]{12})/(?:index|quarantine)/[^/]+")


def forget(url: str | Path, unwanted: Collection[str]) -> Forgotten:
    """Remove rows by key from a remote; ends with a look at the keys of every shard that is there then.

    A shard's keys are those in the small file beside it; where there is none the shard itself is read. One that lies
    damaged there goes as a whole. Not to be run while others push: theirs may hold the rows still. StoreError when the
    remote cannot be reached (the same call goes on from there), Newer where a shard is of a later version.
    """
    packed, remote = np.unique(keys.pack_keys(unwanted)), transport_of(url)
    there = remotes.listed(remote, url)
    n_rows = n_shards = 0
    for target in sorted(there):
        removed = _leave_out(remote, target, there, packed)
        n_rows, n_shards = n_rows + removed, n_shards + (removed > 0)
    for target in filter(_BESIDE.fullmatch, there):
        _remove(remote, target)
    after = remotes.listed(remote, url, empty=True)
    return Forgotten(n_rows, n_shards, sum(_n_held(remote, target, after, packed) for target in after))


def _leave_out(remote: Transport, target: str, there: Mapping[str, int], packed: np.ndarray) -> int:
    """Put a shard without these rows in the place of one with them; returns how many rows went."""
    match = remotes.shard_of(target)
    if not match or not _may_hold(remote, match, there, packed):
        return 0
    base, name, suffix = match.groups()
    with tempfile.TemporaryDirectory(prefix="fmit-") as folder:
        shelf, n_rows = Shelf(Path(folder) / base, suffix), 0
        shelf.make()
        with contextlib.suppress(Damaged):  # it helps nobody, and what it holds cannot be told
            remotes.tried(f"fetch {target}", remotes.fetch, remote, target, shelf.path(name), there[target])
            n_rows = rewrite.forget(folder, keys.unpack_keys(packed)).n_rows
        for new in sorted(shelf.names()):
            remotes.send(remote, shelf, new, base, there)
        if name not in shelf.names():
            _remove(remote, remotes.sidecar(base, name))
            _remove(remote, target)
    return n_rows


def _n_held(remote: Transport, target: str, there: Mapping[str, int], packed: np.ndarray) -> int:
    """How many of these rows a shard of the remote holds; shards without a file of keys were read a moment ago."""
    match = remotes.shard_of(target)
    found = remotes.held(remote, remotes.sidecar(*match.groups()[:2]), there) if match else None
    return 0 if found is None else int(np.isin(found, packed).sum())


def _may_hold(remote: Transport, match: re.Match[str], there: Mapping[str, int], packed: np.ndarray) -> bool:
    found = remotes.held(remote, remotes.sidecar(*match.groups()[:2]), there)
    return found is None or bool(np.isin(found, packed).any())


def _remove(remote: Transport, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        remotes.tried(f"remove {target}", remote.remove, target)

"""Upkeep of stores: what is there, whether it is whole, and what may go. Safe beside running readers and writers.

Every function takes a folder: one store's, or one that holds several. Rows that leave are computed again when needed.

Rewriting shards: small ones joined, unwanted rows left out. The new shard is safe before an old one goes.

Two that compact at once lose nothing: each removes only shards whose rows it has published itself.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import atomic, keys
from cache.index import Catalog
from cache.shard_directory import Shelf, codec_for, codec_of, name_of, open_shard, producer_of, shelves, unlink
from cache.shards import Damaged, Newer, check_name
from schema.errors import StoreError

DAY_S = 86400.0
SPARED_DAYS = 14.0  # gc never takes what was written or used this lately
TEMPORARY_DAYS = 1.0  # a temporary this old has no writer any more, on whatever machine


@dataclass(frozen=True)
class ShelfStats:
    """One shelf in figures; `rows` counts them by producer name. A key in two shards is two rows.

    `n_newer`: shards that a later version of this program wrote, whose rows are not read here.
    """

    shelf: str
    n_shards: int
    n_bytes: int
    n_quarantined: int
    n_newer: int
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Problem:
    """A file that is not what it should be."""

    path: Path
    what: str


@dataclass(frozen=True)
class Verified:
    """What `verify` read, and what is wrong with it; `n_newer` as of ShelfStats."""

    n_shards: int
    n_bytes: int
    n_newer: int
    problems: tuple[Problem, ...]

    @property
    def clean(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Removed:
    """Files that went (or, in a dry run, would go), and what stays."""

    paths: tuple[Path, ...]
    n_bytes: int
    n_kept: int
    kept_bytes: int
    n_spared: int = 0  # would have gone, were they not younger than SPARED_DAYS


def stats(folder: str | Path) -> list[ShelfStats]:
    """Figures of every shelf; a damaged shard (`verify` sets it aside) and one of a later version count no rows."""
    folder, found = Path(folder), []
    for shelf in shelves(folder):
        rows: Counter[str] = Counter()
        n_newer = 0
        sizes = shelf.names()
        for name in sizes:
            try:
                with open_shard(shelf, name) as reader:
                    rows[name_of(producer_of(reader.note))] += reader.n_rows
            except (FileNotFoundError, Damaged):
                continue
            except Newer:
                n_newer += 1
        quarantined = len(list(shelf.quarantine.glob(f"*{shelf.suffix}")))
        label = str(shelf.folder.relative_to(folder))
        counted = dict(sorted(rows.items()))
        found.append(ShelfStats(label, len(sizes), sum(sizes.values()), quarantined, n_newer, counted))
    return found


def verify(folder: str | Path) -> Verified:
    """Read every byte of every shard and index; set damaged shards aside, drop damaged indexes, and report both."""
    problems: list[Problem] = []
    n_shards = n_bytes = n_newer = 0
    for shelf in shelves(Path(folder)):
        atomic.sweep(shelf.shards)
        atomic.sweep(shelf.index)
        for name, size in sorted(shelf.names().items()):
            try:
                check_name(shelf.path(name))
                with open_shard(shelf, name) as reader:
                    reader.keys()
            except FileNotFoundError:
                continue
            except Newer:  # its bytes match its name; more is for the version that wrote it
                n_newer += 1
            except Damaged as error:
                shelf.set_aside(name, error.what)
                problems.append(Problem(shelf.path(name), error.what))
            n_shards, n_bytes = n_shards + 1, n_bytes + size
        problems += _check_indexes(shelf)
        problems += [Problem(path, "not of the store") for path in shelf.strays() if not atomic.is_temporary(path)]
    return Verified(n_shards, n_bytes, n_newer, tuple(problems))


def gc(
    folder: str | Path, *, max_age_days: float | None = None, max_bytes: int | None = None, dry_run: bool = False
) -> Removed:
    """Remove shards unused for `max_age_days`, then the longest unused until `max_bytes` are left.

    Nothing younger than SPARED_DAYS goes. Old quarantined shards and temporaries go too. Ages are of last use, by day.
    """
    if max_age_days is None and max_bytes is None:
        raise StoreError("gc needs a limit", todo="give max_age_days, max_bytes or both")
    now, found = _disk_time(Path(folder)), []
    for shelf in shelves(Path(folder)):
        for name, size in shelf.names().items():
            with contextlib.suppress(FileNotFoundError):
                found.append(((now - shelf.path(name).stat().st_mtime) / DAY_S, size, shelf.path(name)))
    going, n_spared, left = [], 0, sum(size for _, size, _ in found)
    for age, size, path in sorted(found, reverse=True):
        too_old = max_age_days is not None and age > max_age_days
        if not too_old and (max_bytes is None or left <= max_bytes):
            continue
        if age < SPARED_DAYS:
            n_spared += 1
            continue
        going.append(path)
        left -= size
    freed = sum(size for _, size, _ in found) - left
    waste = list(_waste(Path(folder), now))
    if not dry_run:
        unlink([*going, *waste])
    return Removed((*going, *waste), freed, len(found) - len(going), left, n_spared)


def drop(folder: str | Path, where: Mapping[str, str], *, dry_run: bool = False) -> Removed:
    """Remove the shards whose producer has all these values, such as {"producer": "resnet152", "version": "2"}.

    `producer` is the name that `stats` shows. StoreError for an empty condition.
    """
    if not where:
        raise StoreError("drop needs a condition", todo="say which rows, such as producer=NAME")
    going: list[tuple[Path, int]] = []
    kept: list[tuple[Path, int]] = []
    for shelf in shelves(Path(folder)):
        for name, size in shelf.names().items():
            try:
                with open_shard(shelf, name) as reader:
                    found = producer_of(reader.note)
            except (FileNotFoundError, Damaged, Newer):  # gone, for `verify` to deal with, or not ours to judge
                continue
            known = {**found, "producer": name_of(found)}
            fits = all(str(known.get(field)) == value for field, value in where.items())
            (going if fits else kept).append((shelf.path(name), size))
    if not dry_run:
        unlink([path for path, _ in going])
    return Removed(
        tuple(path for path, _ in going), sum(size for _, size in going), len(kept), sum(size for _, size in kept)
    )


def _disk_time(folder: Path) -> float:
    """The time as the folder's disk tells it: shards bear that one, and a machine's own clock may be days off."""
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime
    return time.time()  # a read-only disk: nothing will go anyway


def _check_indexes(shelf: Shelf) -> list[Problem]:
    problems = []
    for path in sorted(shelf.index.glob("*.h5")):
        try:
            check_name(path)
        except FileNotFoundError:
            continue
        except Damaged as error:
            unlink([path])
            problems.append(Problem(path, f"{error.what}; dropped, it is made again"))
    return problems


def _waste(folder: Path, now: float) -> Iterator[Path]:
    """What serves nobody: old quarantined shards, and temporaries of writers long gone."""
    for shelf in shelves(folder):
        places = ((shelf.quarantine, SPARED_DAYS), (shelf.shards, TEMPORARY_DAYS), (shelf.index, TEMPORARY_DAYS))
        for place, days in places:
            for path in sorted(place.glob("*")) + sorted(place.glob(".*")):
                if place != shelf.quarantine and not atomic.is_temporary(path):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    if (now - path.stat().st_mtime) / DAY_S > days:
                        yield path


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

"""Upkeep of stores: what is there, whether it is whole, and what may go. Safe beside running readers and writers.

Every function takes a folder: one store's, or one that holds several. Rows that leave are computed again when needed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cache import atomic
from cache.codecs import name_of, open_shard, producer_of
from cache.shards import Damaged, Newer, check_name
from cache.shelf import Shelf, shelves, unlink
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

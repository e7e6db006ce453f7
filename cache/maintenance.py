"""Maintenance of stores: statistics, verification, and removal of rows. Safe beside running readers and writers.

Every function takes the folder of one store, or of several. Rows that are removed are computed again when needed.
A shard is rewritten in this order: the new one is published, then the old one is removed. Two processes that compact at
once lose nothing: each removes only shards whose rows it has published itself.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import atomic, keys
from cache.index import Catalog
from cache.shard_directory import ShardDirectory, shard_directories, unlink
from cache.shards import ArrayCodec, Damaged, Newer, RowCodec, check_name, open_shard
from schema.errors import StoreError

DAY_S = 86400.0
SPARED_DAYS = 14.0  # gc never removes what was written or used this recently
TEMPORARY_DAYS = 1.0  # a temporary file this old has no writer any more, on whatever machine


@dataclass(frozen=True)
class DirectoryStats:
    """One shard directory in figures; `rows` counts them by producer. A key in two shards is two rows.

    `n_newer`: shards that a later version of this program wrote, whose rows are not counted.
    """

    directory: str
    n_shards: int
    n_bytes: int
    n_quarantined: int
    n_newer: int
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Problem:
    """A file that is damaged, or does not belong here."""

    path: Path
    what: str


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` read, and what is wrong with it; `n_newer` as in DirectoryStats."""

    n_shards: int
    n_bytes: int
    n_newer: int
    problems: tuple[Problem, ...]

    @property
    def clean(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class RemovalReport:
    """Files that were removed (in a dry run: would be), and the shards that stay."""

    paths: tuple[Path, ...]
    n_bytes: int
    n_kept: int
    kept_bytes: int
    n_spared: int = 0  # would have been removed, were they not younger than SPARED_DAYS


@dataclass(frozen=True)
class CompactReport:
    """Shards before and after, and rows that were stored twice."""

    n_before: int
    n_after: int
    n_repeats: int


@dataclass(frozen=True)
class ForgetReport:
    """Rows removed, shards rewritten or removed for it, and `n_left`: rows of these keys found by a final check."""

    n_rows: int
    n_shards: int
    n_left: int


def stats(folder: str | Path) -> list[DirectoryStats]:
    """Figures of every shard directory. Shards that are damaged (`verify` finds them) or newer count no rows."""
    report = []
    for directory in shard_directories(Path(folder)):
        rows: Counter[str] = Counter()
        shards = list(directory.survey())
        for shard in shards:
            if not shard.error:
                rows[shard.producer_name] += shard.n_rows
        report.append(
            DirectoryStats(
                directory=str(directory.folder.relative_to(folder)),
                n_shards=len(shards),
                n_bytes=sum(shard.size for shard in shards),
                n_quarantined=len(list(directory.quarantine.glob(f"*{directory.suffix}"))),
                n_newer=sum(isinstance(shard.error, Newer) for shard in shards),
                rows=dict(sorted(rows.items())),
            )
        )
    return report


def verify(folder: str | Path) -> VerifyReport:
    """Read every byte of every shard and index file; move damaged shards to quarantine, remove damaged index files."""
    problems: list[Problem] = []
    n_shards = n_bytes = n_newer = 0
    for directory in shard_directories(Path(folder)):
        atomic.sweep(directory.shards)
        atomic.sweep(directory.index)
        for shard in directory.survey(check="shard", read_keys=True):
            n_shards, n_bytes = n_shards + 1, n_bytes + shard.size
            if isinstance(shard.error, Newer):  # its bytes match its name; the version that wrote it can check more
                n_newer += 1
            elif shard.error:
                directory.set_aside(shard.name, shard.error)
                problems.append(Problem(directory.path(shard.name), shard.error.what))
        problems += _check_indexes(directory)
        foreign = [path for path in directory.foreign_files() if not atomic.is_temporary(path)]
        problems += [Problem(path, "does not belong to the store") for path in foreign]
    return VerifyReport(n_shards, n_bytes, n_newer, tuple(problems))


def gc(
    folder: str | Path, *, max_age_days: float | None = None, max_bytes: int | None = None, dry_run: bool = False
) -> RemovalReport:
    """Remove shards unused for `max_age_days`, then the longest unused until at most `max_bytes` are left.

    Nothing younger than SPARED_DAYS is removed. Old quarantined shards and temporary files are removed too. Ages are
    counted from the last use, which is recorded once a day.
    """
    if max_age_days is None and max_bytes is None:
        raise StoreError("gc needs a limit", todo="give max_age_days, max_bytes or both")
    now, directories = _disk_time(Path(folder)), shard_directories(Path(folder))
    files = [(directory.path(name), stat) for directory in directories for name, stat in directory.stats().items()]
    going: list[tuple[Path, int]] = []
    staying: list[tuple[Path, int]] = []
    n_spared, left = 0, sum(stat.st_size for _, stat in files)
    for path, stat in sorted(files, key=lambda file: (file[1].st_mtime, file[0])):
        age = (now - stat.st_mtime) / DAY_S
        unwanted = (max_age_days is not None and age > max_age_days) or (max_bytes is not None and left > max_bytes)
        if unwanted and age >= SPARED_DAYS:
            going.append((path, stat.st_size))
            left -= stat.st_size
        else:
            staying.append((path, stat.st_size))
            n_spared += unwanted
    return _remove(going, staying, list(_waste(directories, now)), n_spared, dry_run)


def drop(folder: str | Path, where: Mapping[str, str], *, dry_run: bool = False) -> RemovalReport:
    """Remove the shards whose producer has all these values, such as {"producer": "resnet152", "version": "2"}.

    `producer` is the name that `stats` shows. StoreError for an empty condition.
    """
    if not where:
        raise StoreError("drop needs a condition", todo="say which rows, such as producer=NAME")
    going: list[tuple[Path, int]] = []
    staying: list[tuple[Path, int]] = []
    for directory in shard_directories(Path(folder)):
        for shard in directory.survey():
            if not shard.error:  # else it is for `verify`, or for a later version
                fields = {**shard.producer, "producer": shard.producer_name}
                matches = all(str(fields.get(name)) == value for name, value in where.items())
                (going if matches else staying).append((directory.path(shard.name), shard.size))
    return _remove(going, staying, [], 0, dry_run)


def compact(folder: str | Path) -> CompactReport:
    """Join the small shards of each producer, and keep repeated rows once. Newer shards are not touched."""
    n_before = n_after = n_repeats = 0
    for directory in shard_directories(Path(folder)):
        n_before += len(directory.names())
        for group in _groups(directory):
            n_repeats += _rewrite(directory, group)
        n_after += len(directory.names())
        _rewrite_index(directory)
    return CompactReport(n_before, n_after, n_repeats)


def forget(folder: str | Path, unwanted: Collection[str]) -> ForgetReport:
    """Remove rows by key, rewriting their shards; ends with a check of every key of every shard that is left.

    All quarantined shards are removed, because what they hold is unknown. Do not run it while others compact or pull:
    they may carry a row past the final check. Raises Newer, with nothing removed, where a shard is of a later version.
    """
    packed = np.unique(keys.pack_keys(unwanted))
    directories = shard_directories(Path(folder))
    for shard in (shard for directory in directories for shard in directory.survey()):
        if isinstance(shard.error, Newer):  # before anything is changed
            raise shard.error
    n_rows = n_shards = n_left = 0
    for directory in directories:
        unlink(directory.index.glob("*"))
        for name in _holding(directory, packed):
            n_removed = _rewrite(directory, [name], set(keys.unpack_keys(packed)))
            n_rows, n_shards = n_rows + n_removed, n_shards + (n_removed > 0)
        n_left += sum(_holding(directory, packed).values())
        unlink(directory.quarantine.glob("*"))
        _rewrite_index(directory)
    return ForgetReport(n_rows, n_shards, n_left)


def _disk_time(folder: Path) -> float:
    """The time by the folder's disk, which also dates its files: a machine's own clock may be days off."""
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime
    return time.time()  # a read-only disk: nothing can be removed anyway


def _check_indexes(directory: ShardDirectory) -> Iterator[Problem]:
    for path in sorted(directory.index.glob("*.h5")):
        try:
            check_name(path)
        except FileNotFoundError:
            continue
        except Damaged as error:
            unlink([path])
            yield Problem(path, f"{error.what}; removed, it will be written again")


def _waste(directories: Sequence[ShardDirectory], now: float) -> Iterator[Path]:
    """Old quarantined shards, and temporary files of writers long gone."""
    for directory in directories:
        for place in (directory.quarantine, directory.shards, directory.index):
            quarantined = place == directory.quarantine
            for path in sorted(place.iterdir()) if place.is_dir() else []:
                if quarantined or atomic.is_temporary(path):
                    with contextlib.suppress(FileNotFoundError):
                        days = (now - path.stat().st_mtime) / DAY_S
                        if days > (SPARED_DAYS if quarantined else TEMPORARY_DAYS):
                            yield path


def _remove(
    going: list[tuple[Path, int]], staying: list[tuple[Path, int]], waste: list[Path], n_spared: int, dry_run: bool
) -> RemovalReport:
    paths = [path for path, _ in going] + waste
    if not dry_run:
        unlink(paths)
    freed, kept = (sum(size for _, size in files) for files in (going, staying))
    return RemovalReport(tuple(paths), freed, len(staying), kept, n_spared)


def _groups(directory: ShardDirectory) -> list[list[str]]:
    """Names of shards to join: of one note, each at most half the size that joined ones may have."""
    limit = ArrayCodec.compact_bytes if directory.suffix == ArrayCodec.suffix else RowCodec.compact_bytes
    small = [name for name, stat in directory.stats().items() if stat.st_size <= limit // 2]
    by_note: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for shard in directory.survey(small):
        if isinstance(shard.error, Damaged):
            directory.set_aside(shard.name, shard.error)
        elif not shard.error:
            by_note[shard.note].append((shard.size, shard.name))
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


def _holding(directory: ShardDirectory, packed: np.ndarray) -> dict[str, int]:
    """The readable shards that hold some of these keys, with how many."""
    counts = {}
    for shard in directory.survey(read_keys=True):
        if isinstance(shard.error, Damaged):
            directory.set_aside(shard.name, shard.error)
        elif shard.keys is not None and (n_rows := int(np.isin(shard.keys, packed).sum())):
            counts[shard.name] = n_rows
    return counts


def _rewrite(directory: ShardDirectory, names: Collection[str], unwanted: Collection[str] = ()) -> int:
    """Publish one shard with the rows of these, all of one note, and remove them; returns how many rows were left out.

    A row that several hold is taken from the first by name, as the index does.
    """
    rows: dict[str, Any] = {}
    read: list[str] = []
    n_rows, used_at = 0, 0.0
    for name in sorted(names):
        try:
            with contextlib.closing(open_shard(directory.path(name), "always")) as reader:
                loaded = reader.load()
                used_at = max(used_at, directory.path(name).stat().st_mtime)
        except (FileNotFoundError, Newer):
            continue
        except Damaged as error:
            directory.set_aside(name, error)
            continue
        read.append(name)
        rows = {**loaded, **rows}
        n_rows += len(loaded)
    rows = {key: row for key, row in rows.items() if key not in unwanted}
    new = directory.publish(reader.codec.encode(rows, reader.note)) if rows else ""
    if new:
        with contextlib.suppress(OSError):  # rewriting rows is not using them
            os.utime(directory.path(new), (used_at, used_at))
    unlink(directory.path(name) for name in read if name != new)
    return n_rows - len(rows)


def _rewrite_index(directory: ShardDirectory) -> None:
    """Remove the index files and, if there are many shards, write a new one."""
    unlink(directory.index.glob("*.h5"))
    Catalog(directory, "never").save()

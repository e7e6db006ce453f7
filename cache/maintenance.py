"""Maintenance of stores: statistics, verification, and removal of rows. Safe beside running readers and writers.

To rewrite a shard, the new one is published, then the old one is removed: each process removes only what it rewrote.
"""

import contextlib
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cache import atomic, keys
from cache.shard_directory import NO_KEYS, Shard, ShardDirectory, shard_directories, unlink
from cache.shards import ArrayCodec, Damaged, Newer, RowCodec, check_name, open_shard
from cache.store import Catalog
from schema.errors import StoreError

DAY_S = 86400.0
SPARED_DAYS = 14.0  # gc never removes what was written or used this recently
TEMPORARY_DAYS = 1.0  # a temporary file this old has no writer any more, on whatever machine


@dataclass(frozen=True)
class DirectoryStats:
    directory: str
    n_shards: int
    n_bytes: int
    n_quarantined: int
    n_newer: int  # shards of a newer version of this program, whose rows are not counted
    rows: Mapping[str, int]  # by producer; a key in two shards counts twice


@dataclass(frozen=True)
class VerifyReport:
    n_shards: int
    n_bytes: int
    n_newer: int
    problems: tuple[tuple[Path, str], ...]  # files with what is wrong

    @property
    def clean(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class RemovalReport:
    paths: tuple[Path, ...]  # removed; in a dry run: to be removed
    n_bytes: int
    n_kept: int
    kept_bytes: int
    n_spared: int = 0  # shards that would have been removed if they were older than SPARED_DAYS


@dataclass(frozen=True)
class CompactReport:
    n_before: int  # shards
    n_after: int
    n_repeats: int  # rows that were stored twice


class ForgetReport(NamedTuple):
    n_rows: int  # removed
    n_shards: int  # rewritten or removed for it
    n_left: int  # rows of these keys found by a final check


def stats(folder: str | Path) -> list[DirectoryStats]:
    """Figures of every shard directory. Shards that are damaged (`verify` finds them) or newer count no rows."""
    report = []
    for directory in shard_directories(Path(folder)):
        shards = list(directory.survey())
        rows = sum((Counter({shard.producer["producer"]: shard.n_rows}) for shard in shards), Counter[str]())
        n_bytes = sum(shard.size for shard in shards)
        n_quarantined = len(list(directory.quarantine.glob(f"*{directory.suffix}")))
        n_newer = sum(isinstance(shard.error, Newer) for shard in shards)
        name = str(directory.folder.relative_to(folder))
        report.append(DirectoryStats(name, len(shards), n_bytes, n_quarantined, n_newer, dict(sorted(rows.items()))))
    return report


def verify(folder: str | Path) -> VerifyReport:
    """Read every byte of every shard and index file; quarantine damaged shards, remove damaged index files."""
    problems: list[tuple[Path, str]] = []
    all_shards: list[Shard] = []
    for directory in shard_directories(Path(folder)):
        atomic.sweep(directory.shards)
        atomic.sweep(directory.index)
        for shard in directory.survey(check="shard", read_keys=True):
            all_shards.append(shard._replace(keys=NO_KEYS))
            if isinstance(shard.error, Damaged):
                directory.set_aside(shard.name, shard.error)
                problems.append((directory.path(shard.name), shard.error.what))
        for path in sorted(directory.index.glob("*.h5")):
            try:
                check_name(path)
            except FileNotFoundError:
                continue
            except Damaged as error:
                unlink([path])
                problems.append((path, f"{error.what}; removed, it will be written again"))
        foreign = [path for path in directory.foreign_files() if not atomic.is_temporary(path)]
        problems += [(path, "does not belong to the store") for path in foreign]
    n_newer = sum(isinstance(shard.error, Newer) for shard in all_shards)
    return VerifyReport(len(all_shards), sum(shard.size for shard in all_shards), n_newer, tuple(problems))


def gc(
    folder: str | Path, *, max_age_days: float | None = None, max_bytes: int | None = None, dry_run: bool = False
) -> RemovalReport:
    """Remove shards unused for `max_age_days`, then the longest unused beyond `max_bytes`; those used recently stay."""
    if max_age_days is None and max_bytes is None:
        raise StoreError("gc needs a limit", todo="give max_age_days, max_bytes or both")
    now = time.time()
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        now = os.fstat(file.fileno()).st_mtime  # by the disk that dates the files: a machine's clock may be days off
    directories = shard_directories(Path(folder))
    files = [(directory.path(name), stat) for directory in directories for name, stat in directory.stats().items()]
    shards: list[tuple[Path, int, bool]] = []
    n_spared, left = 0, sum(stat.st_size for _, stat in files)
    for path, stat in sorted(files, key=lambda file: (file[1].st_mtime, file[0])):
        age = (now - stat.st_mtime) / DAY_S
        unwanted = (max_age_days is not None and age > max_age_days) or (max_bytes is not None and left > max_bytes)
        is_removed = unwanted and age >= SPARED_DAYS
        left -= is_removed * stat.st_size
        n_spared += unwanted and not is_removed
        shards.append((path, stat.st_size, is_removed))
    stale = []  # quarantined shards, and temporary files of writers that ended long ago
    for directory in directories:
        old = [(path, SPARED_DAYS) for path in sorted(directory.quarantine.glob("*"))]
        for parent in (directory.shards, directory.index):
            old += [(path, TEMPORARY_DAYS) for path in sorted(parent.glob("*")) if atomic.is_temporary(path)]
        for path, max_days in old:
            with contextlib.suppress(FileNotFoundError):
                if now - path.stat().st_mtime > max_days * DAY_S:
                    stale.append(path)
    return _remove(shards, dry_run, stale, n_spared)


def drop(folder: str | Path, where: Mapping[str, str], *, dry_run: bool = False) -> RemovalReport:
    """Remove the shards whose producer has all these values, such as {"producer": "resnet152", "version": "2"}."""
    if not where:
        raise StoreError("drop needs a condition", todo="say which rows, such as producer=NAME")
    shards = []
    for directory in shard_directories(Path(folder)):
        for shard in directory.survey():
            if not shard.error:  # else it is for `verify`, or for a newer version
                is_removed = all(str(shard.producer.get(name)) == value for name, value in where.items())
                shards.append((directory.path(shard.name), shard.size, is_removed))
    return _remove(shards, dry_run)


def compact(folder: str | Path) -> CompactReport:
    """Join the small shards of each producer, and keep repeated rows once."""
    n_before = n_after = n_repeats = 0
    for directory in shard_directories(Path(folder)):
        n_before += len(directory.names())
        limit = (ArrayCodec if directory.suffix == ArrayCodec.suffix else RowCodec).compact_bytes
        small = [name for name, stat in directory.stats().items() if stat.st_size <= limit // 2]
        by_note: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for shard in _readable(directory, small):
            by_note[shard.note].append((shard.size, shard.name))
        for members in by_note.values():
            groups: list[list[str]] = [[]]
            total = 0
            for size, name in sorted(members):
                if total + size > limit:
                    groups.append([])
                    total = 0
                groups[-1].append(name)
                total += size
            n_repeats += sum(_rewrite(directory, group) for group in groups if len(group) > 1)
        n_after += len(directory.names())
        unlink(directory.index.glob("*.h5"))
        Catalog(directory).save()
    return CompactReport(n_before, n_after, n_repeats)


def forget(folder: str | Path, unwanted: Collection[str]) -> ForgetReport:
    """Remove rows by key, and all quarantined shards, while no one else compacts or pulls; raises Newer before that."""
    unwanted = set(unwanted)
    packed = keys.pack_keys(unwanted)
    directories = shard_directories(Path(folder))
    for directory in directories:  # before anything is changed
        for shard in directory.survey():
            if isinstance(shard.error, Newer):
                raise shard.error
    removed, n_left = [], 0
    for directory in directories:
        unlink(directory.index.glob("*"))
        holding = [shard.name for shard in _readable(directory) if np.isin(shard.keys, packed).any()]
        removed += [_rewrite(directory, [name], unwanted) for name in holding]
        n_left += sum(int(np.isin(shard.keys, packed).sum()) for shard in _readable(directory))
        unlink([*directory.quarantine.glob("*"), *directory.index.glob("*")])
        Catalog(directory).save()
    return ForgetReport(sum(removed), len(removed) - removed.count(0), n_left)


def _remove(
    shards: Sequence[tuple[Path, int, bool]], dry_run: bool, stale: Sequence[Path] = (), n_spared: int = 0
) -> RemovalReport:
    paths = [path for path, _, is_removed in shards if is_removed] + list(stale)
    remaining = [size for _, size, is_removed in shards if not is_removed]
    if not dry_run:
        unlink(paths)
    n_bytes = sum(size for _, size, is_removed in shards if is_removed)
    return RemovalReport(tuple(paths), n_bytes, len(remaining), sum(remaining), n_spared)


def _readable(directory: ShardDirectory, names: Collection[str] | None = None) -> Iterator[Shard]:
    """Open shards with their keys; damaged ones go to quarantine, newer versions are skipped."""
    for shard in directory.survey(names, read_keys=True):
        if isinstance(shard.error, Damaged):
            directory.set_aside(shard.name, shard.error)
        elif not shard.error:
            yield shard


def _rewrite(directory: ShardDirectory, names: Collection[str], unwanted: Collection[str] = ()) -> int:
    """Replace shards, all of one note, by one without the unwanted rows; returns how many rows were left out."""
    rows: dict[str, Any] = {}
    read: list[Path] = []
    n_rows, used_at = 0, 0.0
    for name in sorted(names):
        path = directory.path(name)
        try:
            with contextlib.closing(open_shard(path, "always")) as reader:
                packed = reader.keys()
                values = reader.read(range(len(packed)), keys.split_keys(packed))
                used_at = max(used_at, path.stat().st_mtime)
        except (FileNotFoundError, Newer):
            continue
        except Damaged as error:
            directory.set_aside(name, error)
            continue
        read.append(path)
        rows = dict(zip(keys.unpack_keys(packed), values, strict=True)) | rows  # the first by name counts, as in Index
        n_rows += len(values)
    rows = {key: row for key, row in rows.items() if key not in unwanted}
    if rows:
        new = directory.path(directory.publish(reader.codec.encode(rows, reader.note)))
        with contextlib.suppress(OSError):  # rewriting rows is not using them
            os.utime(new, (used_at, used_at))
        read = [path for path in read if path != new]
    unlink(read)
    return n_rows - len(rows)

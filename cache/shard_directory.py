"""A shelf: one folder of immutable shards of one kind, with its index and its quarantine.

    <store>/arrays/shards/<sha256 of the file's bytes>.h5        rows-<schema>/shards/<...>.parquet
    <store>/arrays/index/<sha256 of the file's bytes>.h5         a cache of the shards' keys
    <store>/arrays/quarantine/                                   damaged shards, each with a line that says why

Under a folder with the setgid bit (a team's) everything made here is open to the group as that folder is.

Opening a shard without knowing beforehand what it holds: upkeep works on any shelf.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa

from cache import atomic, keys
from cache.shards import FORMAT, ArrayCodec, ArrayReader, Check, Damaged, Newer, RowCodec, RowReader
from schema.errors import StoreError

log = logging.getLogger(__name__)

_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shelf:
    """The files of one shelf; `suffix` is that of its shards. Names are the 64 hex digits of a shard's sha256."""

    folder: Path
    suffix: str

    @property
    def shards(self) -> Path:
        return self.folder / "shards"

    @property
    def index(self) -> Path:
        return self.folder / "index"

    @property
    def quarantine(self) -> Path:
        return self.folder / "quarantine"

    def make(self) -> None:
        """Create the folders that are absent; StoreError where that cannot be."""
        try:
            for folder in (self.shards, self.index, self.quarantine):
                make_folder(folder)
        except OSError as error:
            raise refused("the store's folder cannot be made", self.folder, error) from None

    def listed(self) -> set[str]:
        """Names of the shards. Whatever is not named like a shard is not one."""
        try:
            with os.scandir(self.shards) as found:
                entries = [entry.name for entry in found]
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise refused("the store cannot be listed", self.shards, error) from None
        length = 64 + len(self.suffix)
        return {
            entry[:64]
            for entry in entries
            if len(entry) == length and entry.endswith(self.suffix) and _NAME.fullmatch(entry, endpos=64)
        }

    def names(self) -> dict[str, int]:
        """The shards by name, with their size in bytes, in order."""
        found = {}
        for name in sorted(self.listed()):
            with contextlib.suppress(FileNotFoundError):  # it has gone since the folder was listed
                found[name] = self.path(name).stat().st_size
        return found

    def strays(self) -> list[Path]:
        """What lies among the shards and is none: temporaries of running writers, and what others put there."""
        known = self.listed()
        return [path for path in sorted(self.shards.glob("*")) if path.name.removesuffix(self.suffix) not in known]

    def path(self, name: str) -> Path:
        return self.shards / (name + self.suffix)

    def publish(self, data: bytes) -> str:
        """Write a shard and return its name. A shard of that name is replaced: its bytes should be the same."""
        name = keys.digest_bytes(data)
        self._write(self.path(name), data)
        return name

    def publish_index(self, data: bytes) -> Path:
        """Write an index file, named as shards are."""
        path = self.index / f"{keys.digest_bytes(data)}.h5"
        self._write(path, data)
        return path

    def set_aside(self, name: str, why: str) -> None:
        """Move a damaged shard to the quarantine, with a warning; on a read-only disk the warning alone."""
        moved = "moved to quarantine/"
        try:
            make_folder(self.quarantine)
            self.path(name).replace(self.quarantine / (name + self.suffix))
            atomic.write_text(self.quarantine / f"{name}.txt", why + "\n")
        except FileNotFoundError:
            moved = "gone by now"
        except OSError as error:
            moved = f"it stays in its place: {error.strerror}"
        log.warning("%s: damaged shard (%s); %s, its rows count as missing", self.path(name), why, moved)

    def writable(self) -> bool:
        """Whether shards may be written here, as far as rights tell. A folder that has gone is made again."""
        return not self.shards.exists() or os.access(self.shards, os.W_OK | os.X_OK)

    def stamp(self) -> int:
        """Time of the folder's last change, in ns."""
        try:
            return self.shards.stat().st_mtime_ns
        except OSError:
            return 0

    def _write(self, path: Path, data: bytes) -> None:
        try:
            make_folder(path.parent)
            atomic.write_bytes(path, data, mode=file_mode(path.parent))
        except OSError as error:
            raise refused("a shard cannot be written", path.parent, error) from None


def shelves(folder: Path) -> list[Shelf]:
    """All shelves in a store, or in a folder of stores, by path; StoreError where the folder may not be read."""
    found: list[Shelf] = []
    if not folder.is_dir():
        return found
    if not os.access(folder, os.R_OK | os.X_OK):  # the walk below would pass it by in silence
        raise StoreError("the store cannot be read", where=str(folder), todo="mend its rights, or set FMIT_STORE")
    for shards in sorted(folder.rglob("shards")):
        kind = shards.parent.name
        if shards.is_dir() and (kind == "arrays" or kind.startswith("rows-")):
            found.append(Shelf(shards.parent, ".h5" if kind == "arrays" else ".parquet"))
    return found


def unlink(paths: Iterable[Path]) -> None:
    """Remove files; those that have gone already are no error, those that may not be removed are a StoreError."""
    for path in paths:
        try:
            if path.is_dir() and not path.is_symlink():  # somebody's folder, set aside for being called like a shard
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise refused("a file of the store cannot be removed", path, error) from None


def note(producer: Mapping[str, Any]) -> str:
    """What every shard says of itself: its format, who computed its rows (name, version, device), what wrote it."""
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "pyarrow": pa.__version__,
    }
    machine = {"system": platform.system(), "machine": platform.machine()}
    return keys.canonical({"format": FORMAT, "producer": dict(producer), "versions": versions, "writer": machine})


def refused(what: str, where: Path, error: OSError) -> StoreError:
    """A StoreError for something that the disk does not let us do."""
    return StoreError(
        f"{what}: {error.strerror or error}",
        where=str(where),
        todo="what was flushed is safe; free space or mend the folder's rights, then run the same command again",
    )


def file_mode(folder: Path) -> int | None:
    """Permission bits of a file made in `folder`: open to the group as a team's folder is, else as the umask says."""
    mode = folder.stat().st_mode
    return mode & 0o666 if mode & stat.S_ISGID else None


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, under a team's folder with that one's rights."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    mode = folder.parent.stat().st_mode
    if mode & stat.S_ISGID:  # the umask took the group's rights away: a team's store gives them back
        folder.chmod(stat.S_IMODE(mode))


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

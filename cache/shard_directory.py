"""The files of one shard directory: immutable shards of one kind, their index, and a quarantine.

    <store>/arrays/shards/<sha256 of the file's bytes>.h5        rows-<schema>/shards/<...>.parquet
    <store>/arrays/index/<sha256 of the file's bytes>.h5         a cache of the shards' keys
    <store>/arrays/quarantine/                                   damaged shards, each with a text file that says why

Everything made under a folder with the setgid bit (a team's) gets that folder's group rights.
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
from cache.shards import FORMAT, Check, Codec, Damaged, Newer, open_shard
from schema.errors import StoreError

log = logging.getLogger(__name__)

_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shard:
    """What `survey` read of a shard; with `error` (it is damaged, or of a later version) the rest is empty."""

    name: str
    size: int  # bytes
    note: str = ""
    n_rows: int = 0
    keys: np.ndarray | None = None  # [N] of 32-byte strings in row order, if asked for
    error: Damaged | Newer | None = None

    @property
    def producer(self) -> dict[str, Any]:
        """What computed its rows, as given to `Store.open`."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return dict(json.loads(self.note)["producer"])
        return {}

    @property
    def producer_name(self) -> str:
        """A parser names itself in `parser`, every other producer in `name`."""
        return str(self.producer.get("name") or self.producer.get("parser") or "unnamed")


@dataclass(frozen=True)
class ShardDirectory:
    """A folder with shards of one `suffix`. A shard's name is the sha256 of its bytes."""

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
        """Create the folders that are absent; StoreError if that fails."""
        try:
            for folder in (self.shards, self.index, self.quarantine):
                make_folder(folder)
        except OSError as error:
            raise disk_error("the store's folder cannot be made", self.folder, error) from None

    def names(self) -> set[str]:
        """The shards' names. Files that are not named like a shard are ignored."""
        try:
            files = [path.name for path in self.shards.iterdir()]
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise disk_error("the store cannot be listed", self.shards, error) from None
        stems = {file.removesuffix(self.suffix) for file in files if file.endswith(self.suffix)}
        return {stem for stem in stems if _NAME.fullmatch(stem)}

    def stats(self) -> dict[str, os.stat_result]:
        """The shards' names, in order, with what the disk says of their files."""
        stats = {}
        for name in sorted(self.names()):
            with contextlib.suppress(FileNotFoundError):  # removed since the folder was listed
                stats[name] = self.path(name).stat()
        return stats

    def survey(
        self,
        names: Iterable[str] | None = None,
        *,
        check: Check = "never",
        codec: Codec | None = None,
        read_keys: bool = False,
    ) -> Iterator[Shard]:
        """Open shards (by default all) in order of name; those that have gone are left out."""
        for name in sorted(self.names() if names is None else names):
            path, size = self.path(name), 0
            try:
                size = path.stat().st_size
                with contextlib.closing(open_shard(path, check, codec)) as reader:
                    shard = Shard(name, size, reader.note, reader.n_rows, reader.keys() if read_keys else None)
            except FileNotFoundError:
                continue
            except (Damaged, Newer) as error:
                shard = Shard(name, size, error=error)
            yield shard

    def foreign_files(self) -> list[Path]:
        """What lies among the shards and is not one: temporary files, and what others put there."""
        names = self.names()
        return [path for path in sorted(self.shards.glob("*")) if path.name.removesuffix(self.suffix) not in names]

    def path(self, name: str) -> Path:
        return self.shards / (name + self.suffix)

    def publish(self, data: bytes) -> str:
        """Write a shard and return its name. A shard of that name is replaced: its bytes should be the same."""
        name = keys.digest_bytes(data)
        self._write(self.path(name), data)
        return name

    def publish_index(self, data: bytes) -> Path:
        """Write an index file, named like a shard."""
        path = self.index / f"{keys.digest_bytes(data)}.h5"
        self._write(path, data)
        return path

    def set_aside(self, shard: str, error: StoreError) -> None:
        """Move a damaged shard to quarantine and log a warning; on a read-only disk only the warning."""
        why, action = error.what + (f" ({error.found})" if error.found else ""), "moved to quarantine/"
        try:
            make_folder(self.quarantine)
            self.path(shard).replace(self.quarantine / (shard + self.suffix))
            atomic.write_text(self.quarantine / f"{shard}.txt", why + "\n")
        except FileNotFoundError:
            action = "already removed"
        except OSError as failure:
            action = f"it could not be moved: {failure.strerror}"
        log.warning("%s: damaged shard (%s); %s, its rows count as missing", self.path(shard), why, action)

    def writable(self) -> bool:
        """Whether shards may be written here, judging by rights. A folder that was removed is made again."""
        return not self.shards.exists() or os.access(self.shards, os.W_OK | os.X_OK)

    def modified_ns(self) -> int:
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
            raise disk_error("a shard cannot be written", path.parent, error) from None


def shard_directories(folder: Path) -> list[ShardDirectory]:
    """All shard directories in a store, or in a folder of stores, by path; StoreError if it may not be read."""
    if not folder.is_dir():
        return []
    if not os.access(folder, os.R_OK | os.X_OK):  # the search below would skip it silently
        raise StoreError("the store cannot be read", where=str(folder), todo="fix its rights, or set FMIT_STORE")
    parents = [path.parent for path in sorted(folder.rglob("shards")) if path.is_dir()]
    kinds = [(path, ".h5" if path.name == "arrays" else ".parquet") for path in parents]
    return [ShardDirectory(path, suffix) for path, suffix in kinds if re.match(r"arrays$|rows-", path.name)]


def unlink(paths: Iterable[Path]) -> None:
    """Remove files, or folders; StoreError for one that cannot be removed. What is already gone is no error."""
    for path in paths:
        try:
            if path.is_dir() and not path.is_symlink():  # a folder in quarantine that was named like a shard
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error("a file of the store cannot be removed", path, error) from None


def make_note(producer: Mapping[str, Any]) -> str:
    """The note of a new shard: its format, what computed its rows (name, version, device), what wrote it."""
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "pyarrow": pa.__version__,
    }
    machine = {"system": platform.system(), "machine": platform.machine()}
    return keys.canonical({"format": FORMAT, "producer": dict(producer), "versions": versions, "writer": machine})


def disk_error(what: str, where: Path, error: OSError) -> StoreError:
    """A StoreError for something that the disk does not allow."""
    todo = "what was flushed is safe; free space or fix the folder's rights, then run the same command again"
    return StoreError(f"{what}: {error.strerror or error}", where=str(where), todo=todo)


def file_mode(folder: Path) -> int | None:
    """Permission bits of a file made in `folder`: that folder's if it is a team's, else None (the umask decides)."""
    mode = folder.stat().st_mode
    return mode & 0o666 if mode & stat.S_ISGID else None


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; under a team's folder they get its rights."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    mode = folder.parent.stat().st_mode
    if mode & stat.S_ISGID:  # the umask has taken away the group's rights
        folder.chmod(stat.S_IMODE(mode))

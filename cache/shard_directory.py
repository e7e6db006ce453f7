"""The files of one shard directory: immutable shards of one kind, their index, and a quarantine.

<store>/arrays/shards/<sha256 of the file's bytes>.h5        rows-<schema>/shards/<...>.parquet
<store>/arrays/index/<sha256 of the file's bytes>.h5         a cache of the shards' keys
<store>/arrays/quarantine/                                   damaged shards, each with a text file that says why
"""

import contextlib
import json
import logging
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pyarrow as pa

from cache import atomic, keys
from cache.shards import FORMAT, Check, Codec, Damaged, Newer, open_shard
from schema.errors import StoreError

log = logging.getLogger(__name__)
NO_KEYS = np.zeros(0, keys.PACKED)


class Shard(NamedTuple):
    """What `survey` read of a shard: only name and size if there is an `error`."""

    name: str
    size: int  # bytes
    note: str = ""
    n_rows: int = 0
    keys: np.ndarray = NO_KEYS  # [N] of 32-byte strings in row order, if they were read
    error: Damaged | Newer | None = None

    @property
    def producer(self) -> dict[str, Any]:
        """What computed its rows, as the store was given it; `producer` is its name (a parser's is in `parser`)."""
        values: dict[str, Any] = {}
        with contextlib.suppress(ValueError, KeyError, TypeError):
            values = dict(json.loads(self.note)["producer"])
        return {**values, "producer": str(values.get("name") or values.get("parser") or "unnamed")}


class ShardDirectory:
    """A folder with shards of one `suffix`, by default of any schema. A shard's name is the sha256 of its bytes."""

    def __init__(self, folder: Path, suffix: str, codec: Codec | None = None) -> None:
        self.folder, self.suffix, self.codec = folder, suffix, codec
        self.shards, self.index, self.quarantine = (folder / name for name in ("shards", "index", "quarantine"))

    def make(self) -> None:
        with disk_errors("the store's folder cannot be created", self.folder):
            for folder in (self.shards, self.index, self.quarantine):
                make_folder(folder)

    def names(self) -> set[str]:
        files: list[str] = []
        with disk_errors("the store cannot be listed", self.shards), contextlib.suppress(FileNotFoundError):
            files = [path.name for path in self.shards.iterdir()]
        name = re.compile(rf"([0-9a-f]{{64}}){re.escape(self.suffix)}")
        return {match[1] for match in map(name.fullmatch, files) if match}

    def stats(self) -> dict[str, os.stat_result]:
        stats = {}
        for name in sorted(self.names()):
            with contextlib.suppress(FileNotFoundError):  # removed since the folder was listed
                stats[name] = self.path(name).stat()
        return stats

    def survey(
        self, names: Iterable[str] | None = None, *, check: Check = "never", read_keys: bool = False
    ) -> Iterator[Shard]:
        """Open shards (by default all) in order of name; those that have gone are left out."""
        for name in sorted(self.names() if names is None else names):
            with contextlib.suppress(FileNotFoundError):
                size = self.path(name).stat().st_size
                try:
                    with contextlib.closing(open_shard(self.path(name), check, self.codec)) as reader:
                        shard = Shard(name, size, reader.note, reader.n_rows, reader.keys() if read_keys else NO_KEYS)
                except (Damaged, Newer) as error:
                    shard = Shard(name, size, error=error)
                yield shard

    def foreign_files(self) -> list[Path]:
        """Files among the shards that are not shards: temporary files, and what others put there."""
        names = self.names()
        return [path for path in sorted(self.shards.glob("*")) if path.name.removesuffix(self.suffix) not in names]

    def path(self, name: str) -> Path:
        return self.shards / (name + self.suffix)

    def publish(self, data: bytes) -> str:
        """Write a shard and return its name. A shard of that name is replaced: its bytes should be the same."""
        name = keys.digest_bytes(data)
        write_file(self.path(name), data, "a shard cannot be written")
        return name

    def set_aside(self, shard: str, error: StoreError) -> None:
        """Move a damaged shard to quarantine, if the disk allows it, and log a warning."""
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
        """Whether shards may be written here, judging by rights; an absent folder is created again."""
        return not self.shards.exists() or os.access(self.shards, os.W_OK | os.X_OK)

    def modified_ns(self) -> int:
        with contextlib.suppress(OSError):
            return self.shards.stat().st_mtime_ns
        return 0


def shard_directories(folder: Path) -> list[ShardDirectory]:
    """All shard directories in a store, or in a folder of stores, by path; StoreError if it may not be read."""
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):  # the search below would skip it silently
        raise StoreError("the store cannot be read", where=str(folder), todo="fix its permissions, or set FMIT_STORE")
    parents = [path.parent for path in sorted(folder.rglob("shards")) if path.is_dir()]
    kinds = [(path, ".h5" if path.name == "arrays" else ".parquet") for path in parents]
    return [ShardDirectory(path, suffix) for path, suffix in kinds if re.match(r"arrays$|rows-", path.name)]


def unlink(paths: Iterable[Path]) -> None:
    """Remove files and folders, if they exist; StoreError for one that cannot be removed."""
    for path in paths:
        with disk_errors("a file of the store cannot be removed", path):
            if path.is_dir() and not path.is_symlink():  # a folder in quarantine that was named like a shard
                shutil.rmtree(path)
            path.unlink(missing_ok=True)


def make_note(producer: Mapping[str, Any]) -> str:
    """The note of a new shard: its format, what computed its rows, what wrote it."""
    versions = {"python": platform.python_version(), "numpy": np.__version__, "pyarrow": pa.__version__}
    versions |= {"h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version}
    machine = {"system": platform.system(), "machine": platform.machine()}
    return keys.canonical({"format": FORMAT, "producer": dict(producer), "versions": versions, "writer": machine})


@contextlib.contextmanager
def disk_errors(what: str, where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        todo = "what was flushed is safe; free space or fix the folder's permissions, then run the same command again"
        raise StoreError(f"{what}: {error.strerror or error}", where=str(where), todo=todo) from None


def write_file(path: Path, data: bytes, what: str) -> None:
    """Publish a file, with the group's rights under a team's folder; StoreError that starts with `what`."""
    with disk_errors(what, path.parent):
        make_folder(path.parent)
        mode = path.parent.stat().st_mode
        atomic.write_bytes(path, data, mode=mode & 0o666 if mode & stat.S_ISGID else None)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; under a team's folder they get its rights."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    mode = folder.parent.stat().st_mode
    if mode & stat.S_ISGID:  # the umask has taken away the group's rights
        folder.chmod(stat.S_IMODE(mode))

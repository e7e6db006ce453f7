"""Rows for the tests of the store: every key has one right value, so anyone can tell a wrong one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cache import keys
from cache.shard_directory import ShardDirectory, shard_directories
from cache.store import Store

SCHEMA = pa.schema({"start": pa.int32(), "text": pa.string(), "score": pa.float32()})


def key_of(index: int) -> str:
    return keys.key("test", index=index)


def array_of(key: str) -> np.ndarray:
    """Shape and dtype too come from the key: 0 to 2 axes, some of them empty."""
    seed = int(key[:8], 16)
    rng = np.random.default_rng(seed)
    shape = [(), (5,), (0, 3), (2, 4), (64,)][seed % 5]
    return np.array(rng.normal(size=shape), dtype=("float16", "float32")[seed // 5 % 2])


def rows_of(key: str) -> list[dict[str, Any]]:
    seed = int(key[:8], 16)
    return [{"start": seed % 1000 + n, "text": f"wörd {key[n]}", "score": n / 4} for n in range(seed % 4)]


KINDS = pytest.mark.parametrize(("schema", "value"), [(None, array_of), (SCHEMA, rows_of)], ids=["arrays", "rows"])


def same(found: Any, right: Any) -> bool:
    if isinstance(right, np.ndarray):
        return found.dtype == right.dtype and found.shape == right.shape and found.tobytes() == right.tobytes()
    return found == right


def fill(folder: Path, indexes: range, n_flushes: int = 1, schema: pa.Schema | None = None) -> list[str]:
    """Put rows in `n_flushes` shards; returns their keys."""
    names = [key_of(index) for index in indexes]
    value = array_of if schema is None else rows_of
    with Store(folder, schema=schema, producer={"name": "test", "version": 1}) as store:
        for part in np.array_split(np.array(names), n_flushes):
            store.put({str(key): value(str(key)) for key in part})
            store.flush()
    return names


def only_directory(folder: Path) -> ShardDirectory:
    (directory,) = shard_directories(folder)
    return directory


def stored_keys(folder: Path) -> list[str]:
    """The keys of all shards below a folder, sorted and unique."""
    shards = [shard for directory in shard_directories(folder) for shard in directory.survey(read_keys=True)]
    return sorted({key for shard in shards for key in keys.unpack_keys(shard.keys)})


def shard_paths(folder: Path) -> list[Path]:
    directory = only_directory(folder)
    return [directory.path(name) for name in sorted(directory.stats())]


def flip(path: Path, at: int, bit: int = 0) -> None:
    """Flip one bit of a file, in place."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a fork that ends without cleaning up; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setpgid(0, 0)
        work()
        status = 0
    finally:
        os._exit(status)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

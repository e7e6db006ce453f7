"""A remote that fails on order: fsspec's memory filesystem behind the protocol `flaky://`, renaming its uploads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

N_FAILURES: Counter[str] = Counter()  # how many of the next calls fail, by name
CALLS: Counter[str] = Counter()


class FlakyFileSystem(MemoryFileSystem):
    """Fails as networks do: before anything was sent, after half of it, or when it is to be renamed."""

    protocol = "flaky"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("flaky://").removeprefix("memory://").strip("/")

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        data = Path(lpath).read_bytes()
        if fails("put_half"):
            self.pipe_file(rpath, data[: len(data) // 2])
            raise ConnectionResetError("connection reset by peer")
        if fails("put_silently_half"):
            data = data[: len(data) // 2]
        self.pipe_file(rpath, data)

    def get_file(self, rpath: str, lpath: str, **kwargs: Any) -> None:
        data = self.cat_file(rpath)
        if fails("get_half"):
            data = data[: len(data) // 2]
        if fails("get_flipped"):
            data = data[:100] + bytes([data[100] ^ 1]) + data[101:]
        Path(lpath).write_bytes(data)

    def find(self, *arguments: Any, **options: Any) -> Any:
        if fails("find"):
            raise TimeoutError("timed out")
        return super().find(*arguments, **options)

    def mv(self, *arguments: Any, **options: Any) -> None:
        if fails("mv"):
            raise OSError("try again later")
        super().mv(*arguments, **options)


def fails(name: str) -> bool:
    """Whether this call is one of those that were ordered to fail."""
    CALLS[name] += 1
    ordered = N_FAILURES[name] > 0
    N_FAILURES[name] -= ordered
    return ordered


def reset() -> None:
    N_FAILURES.clear()
    CALLS.clear()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)

"""A remote that fails on order: fsspec's memory filesystem behind the protocol `flaky://`, renaming its uploads."""

from __future__ import annotations

from collections import Counter
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

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        if fails("put_half"):
            super().pipe_file(path, value[: len(value) // 2], **kwargs)
            raise ConnectionResetError("connection reset by peer")
        if fails("put_silently_half"):
            value = value[: len(value) // 2]
        super().pipe_file(path, value, **kwargs)

    def cat_file(self, path: str, *arguments: Any, **kwargs: Any) -> bytes:
        data = super().cat_file(path, *arguments, **kwargs)
        if fails("get_half"):
            data = data[: len(data) // 2]
        if fails("get_flipped"):
            data = data[:100] + bytes([data[100] ^ 1]) + data[101:]
        return data

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

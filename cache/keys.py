"""Keys: sha256 over a canonical form of everything that changes a row's numbers, and digests of bytes and files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from schema.errors import DataError, StoreError

KEY_BYTES = 32  # sha256
_HEX = re.compile(r"[0-9a-f]*")


def key(kind: str, **fields: Any) -> str:
    """64 lowercase hex digits: sha256 of the canonical JSON of `kind` and `fields`.

    Fields are JSON values. 1 and 1.0 differ; the order of names does not matter; NaN, infinities and mappings with keys
    that are not strings are refused with DataError.
    """
    return digest_bytes(canonical({"kind": kind, "fields": fields}).encode())


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, ASCII, no spaces, floats by repr."""
    try:
        _check_names(value)
        return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"no canonical JSON: {error}", todo="use text, numbers, booleans, lists and named fields"
        ) from None


def _check_names(value: Any) -> None:
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):  # json would turn 1 and "1" into one name
                raise TypeError(f"the name {name!r} is no text")
        value = value.values()
    if isinstance(value, list | tuple | type({}.values())):
        for inner in value:
            _check_names(inner)


def digest_bytes(data: bytes | bytearray | memoryview) -> str:
    """sha256 as 64 lowercase hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: str | Path) -> str:
    """sha256 of a file's bytes as 64 lowercase hex digits; OSError where it cannot be read."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack_keys(keys: Iterable[str]) -> np.ndarray:
    """Hex keys as an array [N] of 32-byte strings; StoreError for anything but 64 lowercase hex digits."""
    listed = list(keys)
    if any(len(one) != 2 * KEY_BYTES for one in listed) or not _HEX.fullmatch("".join(listed)):
        bad = next(one for one in listed if len(one) != 2 * KEY_BYTES or not _HEX.fullmatch(one))
        raise StoreError("a key is 64 lowercase hex digits", found=repr(bad)[:80], todo="make it with cache.keys.key")
    return np.frombuffer(bytes.fromhex("".join(listed)), dtype=f"S{KEY_BYTES}")


def unpack_keys(packed: np.ndarray) -> list[str]:
    """Hex keys of an array [N] of 32-byte strings."""
    text = np.ascontiguousarray(packed).tobytes().hex()
    width = 2 * KEY_BYTES
    return [text[at : at + width] for at in range(0, len(text), width)]

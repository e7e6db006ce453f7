"""Keys: sha256 over the canonical JSON of everything that changes a row's numbers; digests of bytes and files."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from schema.errors import DataError, StoreError

KEY_BYTES = 32  # sha256
PACKED = np.dtype(f"S{KEY_BYTES}")
_NESTED = (dict, list, tuple)
_HEX = re.compile(r"[0-9a-f]*")


def key(kind: str, **fields: Any) -> str:
    """64 lowercase hex digits: sha256 of the canonical JSON of `kind` and `fields`; 1 and 1.0 differ."""
    return digest_bytes(canonical({"kind": kind, "fields": fields}).encode())


def canonical(value: Any) -> str:
    """Canonical JSON: sorted names, ASCII, no spaces; DataError for NaN, infinities and names that are not text."""
    try:
        _check_names(value)
        return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        todo = "use text, numbers, booleans, lists and mappings with text keys"
        raise DataError(f"cannot be written as canonical JSON: {error}", todo=todo) from None


def _check_names(value: Any) -> None:
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):  # json would turn 1 and "1" into the same name
                raise TypeError(f"the name {name!r} is not a string")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, _NESTED) else ():
        if isinstance(inner, _NESTED):
            _check_names(inner)


def digest_bytes(data: bytes | bytearray | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_file(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack_keys(keys: Iterable[str]) -> np.ndarray:
    """Hex keys as an array [N] of 32-byte strings; StoreError for anything but 64 lowercase hex digits."""
    names = list(keys)
    text = "".join(names)
    if any(len(name) != 2 * KEY_BYTES for name in names) or not _HEX.fullmatch(text):
        bad = next(name for name in names if len(name) != 2 * KEY_BYTES or not _HEX.fullmatch(name))
        raise StoreError("a key is 64 lowercase hex digits", found=repr(bad)[:80], todo="make it with cache.keys.key")
    return np.frombuffer(bytes.fromhex(text), dtype=PACKED)


def unpack_keys(packed: np.ndarray) -> list[str]:
    return [key.hex() for key in split_keys(packed)]


def split_keys(packed: np.ndarray) -> list[bytes]:
    """The keys of an array [N] as 32 bytes each; NumPy's own items drop trailing zero bytes."""
    raw = np.ascontiguousarray(packed).tobytes()
    return [raw[start : start + KEY_BYTES] for start in range(0, len(raw), KEY_BYTES)]

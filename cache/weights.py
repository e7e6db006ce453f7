"""Model files: where they are, whether they are the right ones, and safetensors without torch."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from cache import atomic, keys
from schema.errors import WeightsError

EMBEDDED = Path(__file__).resolve().parent.parent / "weights"
SUFFIX = ".safetensors"
PICKLED = b"\x80\x02"  # how files of torch before 1.6 begin; later ones are zips
_CODES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U8": "|u1"}
_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth?$")  # torchvision's files end in the first digits of their sha256
_IN_CARD = re.compile(r"^\| these weights \| ([0-9a-f]{64}) \|$", re.M)
_NAMES = {np.dtype(code): name for name, code in _CODES.items()} | {np.dtype(bool): "BOOL"}


def folder() -> Path:
    """Where fetched weights files lie: `$FMIT_MODELS` (a team's, perhaps), else `.fmit/models`."""
    return Path(os.environ.get("FMIT_MODELS") or ".fmit/models")


def find(name_or_path: str | Path, digest: str | None = None) -> Path:
    """The file or folder that a parameter names: a path that exists, a fetched file, or an embedded one.

    `digest`, where given, is checked (files only). Raises WeightsError that says where it looked.
    """
    given = Path(name_or_path).expanduser()
    candidates = [given, folder() / given, EMBEDDED / given, EMBEDDED / f"{given}{SUFFIX}"]
    path = next((one for one in candidates if str(name_or_path) and one.exists()), None)
    if path is None:
        raise WeightsError(
            f"no weights {str(name_or_path)!r}",
            found=f"nothing at {given}, in {folder()} or under weights",
            todo=f"get it (fmit models fetch), or give a path or the name of an embedded one: {', '.join(names())}",
        )
    if digest is not None:
        verify(path, digest)
    return path


def names() -> list[str]:
    """The embedded weights, by name."""
    return sorted(path.name.removesuffix(SUFFIX) for path in EMBEDDED.glob(f"*{SUFFIX}"))


def verify(path: str | Path, sha256: str) -> None:
    """Raise WeightsError unless the file's bytes have this sha256."""
    try:
        found = keys.digest_file(path)
    except OSError as error:
        raise WeightsError(f"cannot read weights: {error.strerror}", where=str(path)) from None
    if found != sha256:
        raise WeightsError(
            f"these are not the expected weights: sha256 should be {sha256}",
            where=str(path),
            found=found,
            todo="fetch the file again, or name the digest of the one you mean",
        )


def pin(path: Path) -> str:
    """The sha256, or its first digits, that a file tells of itself: in its name, or in the card beside it; else ""."""
    named = _IN_NAME.search(path.name)
    if named:
        return named[1]
    try:
        card = _IN_CARD.search(path.with_suffix(".md").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return card[1] if card else ""


def damage(path: Path, sha256: str = "") -> str:
    """What is wrong with a weights file, "" for nothing: not the bytes of `sha256` (or its first digits).

    Without a digest only the file's frame is looked at: whether it is a file of weights at all, and was cut short.
    """
    try:
        if sha256:
            found = keys.digest_file(path)
            return "" if found.startswith(sha256) else f"sha256 {found}, expected {sha256}"
        if path.suffix == SUFFIX:
            with safe_open(path, framework="numpy"):
                return ""
        with path.open("rb") as file:
            head = file.read(len(PICKLED))
        if head.startswith(b"PK"):  # what cuts a zip short cuts off its end, where its table is
            return "" if zipfile.is_zipfile(path) else "the file ends too early"
        return "" if head == PICKLED else "it is no weights file" if head else "it is empty"
    except (OSError, SafetensorError) as error:
        return f"it cannot be read: {error}"


def load_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors by name and the metadata of a safetensors file; WeightsError when it is damaged or no such file."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise WeightsError(
            f"no readable safetensors file: {error}",
            where=str(path),
            todo="fetch it again, or convert it to safetensors",
        ) from None


def save_safetensors(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Publish a safetensors file; equal input gives equal bytes (the library itself writes metadata in any order)."""
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    blobs, at = [], 0
    for name in sorted(tensors, key=lambda one: (-tensors[one].dtype.itemsize, one)):  # widest first: all stay aligned
        value = np.asarray(tensors[name])
        if value.dtype not in _NAMES:
            raise WeightsError(
                f"tensor {name} has a dtype that safetensors lacks", where=str(path), found=str(value.dtype)
            )
        blob = value.tobytes()
        header[name] = {
            "dtype": _NAMES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [at, at + len(blob)],
        }
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the data to 8 bytes
    atomic.write_bytes(path, len(text).to_bytes(8, "little") + text + b"".join(blobs))

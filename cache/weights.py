"""Weights files: where they are, whether they are the expected ones, and safetensors without torch."""

import contextlib
import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cache import atomic, keys
from schema.errors import WeightsError

EMBEDDED = Path(__file__).resolve().parent.parent / "weights"
SUFFIX = ".safetensors"
PICKLED = b"\x80\x02"  # the first bytes of files by torch before 1.6; later ones are zips
_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth?$")  # torchvision's files end in the first digits of their sha256
_IN_CARD = re.compile(r"^\| these weights \| ([0-9a-f]{64}) \|$", re.M)


def folder() -> Path:
    """The folder of fetched weights files: `$FMIT_MODELS`, else `.fmit/models`."""
    return Path(os.environ.get("FMIT_MODELS") or ".fmit/models")


def find(name_or_path: str | Path, digest: str | None = None) -> Path:
    """As `locate`, but raises WeightsError where there is nothing; `digest`, if given, is checked (files only)."""
    path = locate(name_or_path)
    if path is None:
        embedded = ", ".join(sorted(path.stem for path in EMBEDDED.glob(f"*{SUFFIX}")))
        found = f"nothing at {name_or_path}, in {folder()} or under weights"
        todo = f"fetch it (fmit models fetch), or give a path or the name of an embedded one: {embedded}"
        raise WeightsError(f"no weights {str(name_or_path)!r}", found=found, todo=todo)
    if digest is not None:
        verify(path, digest)
    return path


def locate(name_or_path: str | Path) -> Path | None:
    """The file or folder of weights that a parameter names: a path, a fetched file, or one that ships with FMIT."""
    given = Path(name_or_path).expanduser()
    candidates = [given, folder() / given, EMBEDDED / given, EMBEDDED / f"{given}{SUFFIX}"]
    return next((path for path in candidates if str(name_or_path) and path.exists()), None)


def verify(path: str | Path, sha256: str) -> None:
    if wrong := damage(Path(path), sha256):
        todo = "fetch the file again, or correct the digest"
        raise WeightsError(f"not the expected weights: {wrong}", where=str(path), todo=todo)


def pin(path: Path) -> str:
    """The sha256, or its first digits, that a file's name or the card beside it states; else ""."""
    match = _IN_NAME.search(path.name)
    if not match:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            match = _IN_CARD.search(path.with_suffix(".md").read_text(encoding="utf-8"))
    return match[1] if match else ""


def damage(path: Path, sha256: str = "") -> str:
    """What is wrong with a weights file ("": nothing); without `sha256`, or its first digits, only with its format."""
    try:
        if sha256:
            found = keys.digest_file(path)
            return "" if found.startswith(sha256) else f"sha256 {found}, expected {sha256}"
        if path.suffix == SUFFIX:
            with safe_open(path, framework="numpy"):
                return ""
        with path.open("rb") as file:
            head = file.read(len(PICKLED))
        if head.startswith(b"PK"):  # a zip's table is at its end: a cut removes it
            return "" if zipfile.is_zipfile(path) else "the file ends too early"
        return "" if head == PICKLED else "it is not a weights file" if head else "it is empty"
    except (OSError, SafetensorError) as error:
        return f"it cannot be read: {error}"


def load_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors by name and the metadata of a safetensors file; WeightsError if it is missing or damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        what, todo = f"not a readable safetensors file: {error}", "fetch it again, or convert it to safetensors"
        raise WeightsError(what, where=str(path), todo=todo) from None


def save_safetensors(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Publish a safetensors file; equal input gives equal bytes (the library itself orders metadata at random)."""
    try:
        data = save({name: np.asarray(value, order="C") for name, value in tensors.items()}, dict(metadata) or None)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"tensors that safetensors cannot hold: {error}", where=str(path)) from None
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the data to 8 bytes
    atomic.write_bytes(path, len(text).to_bytes(8, "little") + text + data[end:])

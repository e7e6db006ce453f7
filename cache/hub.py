"""The Hugging Face cache on disk: which snapshot of a model is there, whether it is whole, how files get in.

    <root>/models--OWNER--NAME/blobs/<sha256, or git's sha1 of small files>     refs/main     snapshots/<commit>/<file>

Nothing here asks the network. A snapshot's files are links to blobs, and a blob's name is the digest of its bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from cache import atomic, keys
from schema.errors import WeightsError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
KEPT = ("*.json", "*.txt", "*.model", "*.safetensors", "*.codes", "README.md")  # what loading a model may read
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


def root() -> Path:
    """The cache's folder, as huggingface_hub has it (`$HF_HUB_CACHE`, `$HF_HOME`)."""
    from huggingface_hub import constants  # late: it takes a moment to import

    return Path(constants.HF_HUB_CACHE)


def snapshot(name: str, revision: str = "") -> Path | None:
    """The folder of a model's snapshot, or None; `revision` is a commit, a branch or a tag ("": main)."""
    base = _base(name)
    direct = base / "snapshots" / revision
    if revision and direct.is_dir():
        return direct
    try:
        commit = (base / "refs" / (revision or "main")).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    found = base / "snapshots" / commit
    return found if commit and found.is_dir() else None


def weights_file(folder: Path) -> Path | None:
    """The file of a model's folder that holds its weights, or the index of several; None where there is none."""
    return next((folder / name for name in WEIGHTS if (folder / name).exists()), None)


def parts(folder: Path) -> list[Path]:
    """The files that hold a model's weights, one or several; WeightsError where there is none or no readable index."""
    file = weights_file(folder)
    if file is None:
        raise WeightsError("no weights in the model's folder", where=str(folder), todo="fetch the model again")
    if file.suffix != ".json":
        return [file]
    try:
        names = json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()
        return [folder / name for name in sorted(set(names))]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        todo = "fetch the model again"
        raise WeightsError("the model's weights cannot be read", where=str(file), found=str(error), todo=todo) from None


def digest(folder: Path) -> str:
    """One sha256 for a model's weights: of the file, or of the names and digests of several.

    Raises WeightsError where there are none, or not all.
    """
    files = parts(folder)
    try:
        digests = {file.relative_to(folder).as_posix(): keys.digest_file(file) for file in files}
    except OSError as error:
        where, todo = str(error.filename), "fetch the model again"
        raise WeightsError("the model's weights cannot be read", where=where, found=str(error), todo=todo) from None
    named = weights_file(folder) == files[0]
    return digests[files[0].name] if named else keys.key("model-folder", files=digests)


def damage(folder: Path) -> str:
    """What is wrong with a model's folder, "" for nothing: files lacking, or bytes that their digest does not fit."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.exists():
            return f"{path.name} is not there: its blob is missing"
        blob = path.resolve()
        if path.is_symlink() and blob.is_file() and not _fits(blob):
            return f"the bytes of {path.name} do not match their digest"
    lost = [] if (folder / "config.json").is_file() else ["config.json"]
    lost += [] if weights_file(folder) else ["weights"]
    return f"no {' and no '.join(lost)}" if lost else ""


def bad_json(folder: Path) -> str:
    """Which of a folder's JSON files is none, and why, "" for none: libraries answer one with errors of any kind."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            return f"{path.name}: {error}"
    return ""


def install(name: str, source: Path, revision: str = "") -> Path:
    """Copy a model's folder into the cache, so that its name loads without a network; returns the snapshot.

    Without `revision` the snapshot is named by its files' digests. Raises WeightsError for a folder that is no model.
    """
    wrong = damage(source)
    if wrong:
        raise WeightsError(f"no whole model: {wrong}", where=str(source), todo="give the folder of a downloaded model")
    base = _base(name)
    digests = {path.name: keys.digest_file(path) for path in sorted(source.iterdir()) if path.is_file()}
    commit = revision or keys.key("model-folder", files=digests)[:40]
    for file, digest in digests.items():
        _copy(source / file, base / "blobs" / digest)
    with atomic.folder(base / "snapshots" / commit) as new:
        for file, digest in digests.items():
            (new / file).symlink_to(Path("..", "..", "blobs", digest))
    atomic.write_text(base / "refs" / "main", commit)
    return base / "snapshots" / commit


def size(folder: Path) -> int:
    """Bytes of a folder's files, links followed."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _base(name: str) -> Path:
    return root() / f"models--{name.replace('/', '--')}"


def _fits(blob: Path) -> bool:
    if _SHA256.fullmatch(blob.name):
        return keys.digest_file(blob) == blob.name
    if _SHA1.fullmatch(blob.name):
        data = blob.read_bytes()  # git's way, for files of a few kilobytes
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == blob.name
    return True


def _copy(source: Path, target: Path) -> None:
    if target.is_file() and _fits(target):
        return
    with atomic.file(target) as temporary, source.open("rb") as old, temporary.open("wb") as new:
        while block := old.read(1 << 22):
            new.write(block)
        os.fsync(new.fileno())

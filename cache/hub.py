"""The Hugging Face cache on disk: which snapshot of a model is there, whether it is whole, how files are installed.

    <root>/models--OWNER--NAME/blobs/<sha256, or git's sha1 of small files>     refs/main     snapshots/<commit>/<file>

A snapshot's files are links to blobs, and a blob's name is the digest of its bytes. huggingface_hub's own functions
are not used: importing them takes 0.7 s, and they check digests only with a network.
"""

import hashlib
import json
import shutil
from pathlib import Path

from cache import atomic, keys
from schema.errors import WeightsError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
KEPT = ("*.json", "*.txt", "*.model", "*.safetensors", "*.codes", "README.md")  # what loading a model may read
UNREADABLE, TODO = "the model's weights cannot be read", "fetch the model again"


def snapshot(name: str, revision: str = "") -> Path | None:
    """The folder of a model's snapshot, or None; `revision` is a commit, a branch or a tag ("": main)."""
    base = _base(name)
    folder = base / "snapshots" / revision
    if not revision or not folder.is_dir():
        ref = base / "refs" / (revision or "main")
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
        if not commit:
            return None
        folder = base / "snapshots" / commit
    return folder if folder.is_dir() else None


def weights_file(folder: Path) -> Path | None:
    """The file in a model's folder that holds its weights, or the index of several; None if it is absent."""
    return next((folder / name for name in WEIGHTS if (folder / name).exists()), None)


def parts(folder: Path) -> list[Path]:
    """The files that hold a model's weights, one or several; WeightsError without weights or a readable index."""
    file = weights_file(folder)
    if file is None:
        raise WeightsError("no weights in the model's folder", where=str(folder), todo=TODO)
    if file.suffix != ".json":
        return [file]
    try:
        names = json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()
        return [folder / name for name in sorted(set(names))]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(UNREADABLE, where=str(file), found=str(error), todo=TODO) from None


def digest(folder: Path) -> str:
    """One sha256 for a model's weights: of the file, or of the names and digests of several; WeightsError."""
    files = parts(folder)
    try:
        digests = {file.relative_to(folder).as_posix(): keys.digest_file(file) for file in files}
    except OSError as error:
        raise WeightsError(UNREADABLE, where=str(error.filename), found=str(error), todo=TODO) from None
    is_single = weights_file(folder) == files[0]
    return digests[files[0].name] if is_single else keys.key("model-folder", files=digests)


def damage(folder: Path) -> str:
    """What is wrong with a model's folder, "" for nothing: files missing, or bytes that do not match their digest."""
    for link in sorted(path for path in folder.rglob("*") if path.is_symlink()):
        if not link.exists():
            return f"{link.name} is not there: its blob is missing"
        if link.is_file() and not _matches_name(link.resolve()):
            return f"the bytes of {link.name} do not match their digest"
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    missing += [] if weights_file(folder) else ["weights"]
    return f"no {' and no '.join(missing)}" if missing else ""


def bad_json(folder: Path) -> str:
    """The first of a folder's JSON files that cannot be read, and why; "" if all can."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            return f"{path.name}: {error}"
    return ""


def install(name: str, source: Path, revision: str = "") -> Path:
    """Copy a model's folder into the cache as a snapshot, which loads without a network. Raises WeightsError."""
    if wrong := damage(source):
        todo = "give the folder of a downloaded model"
        raise WeightsError(f"incomplete model: {wrong}", where=str(source), todo=todo)
    base = _base(name)
    digests = {path.name: keys.digest_file(path) for path in sorted(source.iterdir()) if path.is_file()}
    commit = revision or keys.key("model-folder", files=digests)[:40]
    for file, digest in digests.items():
        blob = base / "blobs" / digest
        if not (blob.is_file() and _matches_name(blob)):
            with atomic.file(blob) as temporary:
                shutil.copyfile(source / file, temporary)
    with atomic.folder(base / "snapshots" / commit) as new:
        for file, digest in digests.items():
            (new / file).symlink_to(Path("..", "..", "blobs", digest))
    atomic.write_text(base / "refs" / "main", commit)
    return base / "snapshots" / commit


def _base(name: str) -> Path:
    from huggingface_hub import constants  # late: only what uses the hub needs it

    return Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"


def _matches_name(blob: Path) -> bool:
    """Whether a blob's bytes have the digest that its name says; True for a name that is not a digest."""
    if len(blob.name) == 64:
        return keys.digest_file(blob) == blob.name
    if len(blob.name) == 40:
        data = blob.read_bytes()  # git's digest, for files of a few kilobytes
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == blob.name
    return True

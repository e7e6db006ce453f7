"""Inputs of a dataset that DVC does not see in `data/<name>`, and a DVC stage that tracks them.

DVC does not follow links to folders. For what lies behind them or elsewhere, `track` writes `inputs/<name>/dvc.yaml`:
a stage that depends on it by content and writes its digests into the dataset's folder, on which ingest depends.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from cache import atomic, keys
from pipeline.corpus.config import SourceConfig
from schema.errors import ConfigError


def hidden(folder: Path, source: SourceConfig) -> list[Path]:
    """Absolute paths that ingest reads and that DVC does not see in the dataset's folder."""
    images, absolute = folder / source.images, []
    files = (folder / name for name in source.files.values())
    paths = [path for path in files if not _is_visible(folder, path.parent)]
    paths += [images] if images.is_dir() and not _is_visible(folder, images) else []
    for path in (*paths, *_folder_links(images, {os.path.realpath(images)})):
        if ".." in path.parts:  # resolve it; the last part may stay a link, which DVC follows
            path = Path(os.path.realpath(path)) if path.name == ".." else Path(os.path.realpath(path.parent), path.name)
        absolute.append(path)
    return absolute


def track(root: Path, name: str, folder: Path, source: SourceConfig) -> list[Path]:
    """Have DVC track the hidden inputs of a dataset in the project `root`; returns them. Raises ConfigError."""
    if not (root / ".dvc").is_dir():
        return []
    images = folder / source.images
    if not images.is_dir() and not _is_visible(folder, images.parent):
        raise ConfigError("the image folder does not exist", where=str(images), todo="create it or set source.images")
    paths, stage, manifest = hidden(folder, source), root / "inputs" / name / "dvc.yaml", _manifest(name, folder)
    if not paths:
        for path in (stage, stage.with_name("dvc.lock"), manifest):
            path.unlink(missing_ok=True)
        return []
    what = todo = ""
    if (root / "data" / f"{name}.dvc").exists():
        what = f"`dvc add data/{name}` did not add the targets of links"
        todo = f"put the files themselves or links to files there, or make data/{name} itself a link, without `dvc add`"
    elif any(Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(path)) for path in paths):
        what, todo = "an input contains the dataset's own folder", "move it"
    elif not os.access(folder, os.W_OK):
        what = "DVC does not see these inputs, and the folder is read-only"
        todo = "make the folder writable, or link the dataset folder as a whole, or each file"
    if what:
        raise ConfigError(what, where=str(folder), found=", ".join(map(str, paths[:3])), todo=todo)
    atomic.write_text(stage, _stage(root, name, paths))
    write_manifest(name, folder, source)
    return paths


def write_manifest(name: str, folder: Path, source: SourceConfig) -> None:
    """Write the digests of the hidden inputs into the dataset's folder; the generated stage calls this."""
    digests = {os.path.relpath(path, folder): _digest(path) for path in hidden(folder, source)}
    atomic.write_json(_manifest(name, folder), digests)


def untracked(root: Path, name: str, folder: Path, source: SourceConfig) -> list[Path]:
    """Hidden inputs that DVC does not track yet: they were linked after the last ingest."""
    stage, paths = root / "inputs" / name / "dvc.yaml", hidden(folder, source)
    written = stage.read_text(encoding="utf-8") if stage.is_file() else ""
    return paths if (root / ".dvc").is_dir() and written != _stage(root, name, paths) else []


def _is_visible(folder: Path, path: Path) -> bool:
    """Whether DVC reaches `path` from the dataset's folder: below it, and not through a link to a folder."""
    inner = Path(os.path.normpath(path))
    between = [part for part in (inner, *inner.parents) if part != folder and part.is_relative_to(folder)]
    return inner.is_relative_to(folder) and ".." not in path.parts and not any(map(Path.is_symlink, between))


def _folder_links(folder: Path, entered: set[str]) -> Iterator[Path]:
    """Links to folders below `folder`, at any depth; `entered`: real paths, so that no loop is followed."""
    for parent, folders, _ in os.walk(folder):
        for link in (Path(parent, name) for name in sorted(folders)):
            real = os.path.realpath(link)
            if link.is_symlink() and real not in entered:
                entered.add(real)
                yield link
                yield from _folder_links(link, entered)


def _stage(root: Path, name: str, paths: list[Path]) -> str:
    deps = [path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix() for path in paths]
    out = _manifest(name, Path("data", name)).as_posix()
    stage = {"wdir": "../..", "cmd": f"sh bin/fmit inputs {name}", "deps": deps, "outs": [{out: {"cache": False}}]}
    what = f"inputs behind links to folders or outside data/{name}"
    note = f"# Written by `fmit ingest {name}`: {what}. Commit this file.\n"
    return f"{note}{yaml.safe_dump({'stages': {'inputs': stage}}, sort_keys=False, allow_unicode=True)}"


def _manifest(name: str, folder: Path) -> Path:
    return folder / f".inputs-{name}.json"


def _digest(path: Path) -> str:
    """sha256 of a file, or of the names and digests of the files in a folder."""
    if not path.is_dir():
        return keys.digest_file(path) if path.is_file() else "missing"
    digest = hashlib.sha256()
    for parent, folders, files in os.walk(path):
        folders.sort()
        for file in (Path(parent, name) for name in sorted(files)):
            content = keys.digest_file(file) if file.is_file() else "missing"
            digest.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()

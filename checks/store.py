"""Checks of the store and of DVC's state. DVC itself is not run, so that nothing is written."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from checks.findings import Finding, note, ok, problem
from schema.errors import StoreError
from schema.text import first_of

N_NAMED = 6  # stages named in one line


def check_store(folder: Path) -> Iterator[Finding]:
    """Whether the store can be read and written, what it holds, and how many of its shards are quarantined."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        yield problem("store", f"{existing} is not a folder", "set FMIT_STORE to a folder")
        return
    if not os.access(existing, os.R_OK | os.X_OK):
        yield problem("store", f"{existing} cannot be read", "change its permissions, or set FMIT_STORE")
        return
    if not os.access(existing, os.W_OK | os.X_OK):
        yield problem("store", f"{existing} is read-only", "change its permissions, or set FMIT_STORE")
    if not folder.exists():
        yield ok("store", f"{folder} does not exist yet: the first stage creates it")
        return
    yield from _check_shards(folder)


def _check_shards(folder: Path) -> Iterator[Finding]:
    from cache import maintenance

    try:
        directories = maintenance.stats(folder)
    except StoreError as error:
        yield problem("store", error.fact, error.todo or "change the folder's permissions")
        return
    rows = sum(sum(one.rows.values()) for one in directories)
    n_shards, n_bytes = sum(one.n_shards for one in directories), sum(one.n_bytes for one in directories)
    yield ok("store", f"{folder}: {rows} rows in {n_shards} shard(s), {n_bytes / 1e6:.1f} MB")
    for one in directories:
        if one.n_quarantined:
            what = f"{one.n_quarantined} damaged shard(s) in {one.directory}/quarantine"
            yield note("store", what, "their rows are computed again when needed; check the disk if more appear")


def check_dvc(root: Path) -> Iterator[Finding]:
    """Whether `dvc repro` can work here, and which stages of dvc.lock are stale. DVC itself is not run."""
    if not (shutil.which("dvc") or (Path(sys.executable).parent / "dvc").exists()):
        yield note("dvc", "DVC is not installed", "pip install dvc, or run each stage by its fmit command")
    folders = (root, *root.parents)
    if not any((path / ".git").exists() for path in folders):
        yield note("dvc", "no git repository: dvc repro does not work here", "git init, then dvc init")
    if not any((path / ".dvc").is_dir() for path in folders):
        yield note("dvc", "no DVC repository: dvc repro does not work here", "dvc init")
    if not (root / "dvc.yaml").is_file():
        yield note("dvc", "no dvc.yaml: there are no stages to reproduce", "copy the one of this repository")
    lock = root / "dvc.lock"
    if not lock.is_file():
        yield note("dvc", "no dvc.lock: DVC has not run any stage yet", "dvc repro")
        return
    yield from _check_lock(root, lock)


def _check_lock(root: Path, lock: Path) -> Iterator[Finding]:
    import yaml

    try:
        stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
        params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        stale = [f"{name}: {why}" for name, stage in stages.items() if (why := why_stale(root, stage, params))]
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        yield problem("dvc", f"dvc.lock cannot be read: {error}", "restore it (git checkout -- dvc.lock), or remove it")
        return
    if not stale:
        yield ok("dvc", f"{len(stages)} stage(s) in dvc.lock, none is stale (folders were not compared)")
        return
    what = f"{len(stale)} of {len(stages)} stage(s) stale: {first_of(stale, N_NAMED, '; ')}"
    yield note("dvc", what, "dvc repro brings them up to date")


def why_stale(root: Path, stage: Mapping[str, Any], params: Any) -> str:
    """Why a stage of dvc.lock is stale, "" where it is not: a parameter, a dependency's bytes, or a missing output."""
    for key, value in (stage.get("params") or {}).get("params.yaml", {}).items():
        if _value(params, key) != value:
            return f"{key} changed"
    for dep in stage.get("deps") or ():
        path = root / dep["path"]
        if not path.exists():
            return f"{dep['path']} is missing"
        if path.is_file() and "md5" in dep and _md5(path) != dep["md5"]:
            return f"{dep['path']} changed"
    return next(
        (f"{out['path']} is missing" for out in stage.get("outs") or () if not (root / out["path"]).exists()), ""
    )


def _value(params: Any, key: str) -> Any:
    for part in key.split("."):
        params = params.get(part) if isinstance(params, Mapping) else None
    return params


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

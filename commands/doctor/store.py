"""Checks of what remembers work: the store, and DVC's state. Nothing is written, not even DVC's own bookkeeping."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from commands.doctor.findings import Finding, note, ok, problem
from schema.errors import StoreError

N_NAMED = 6  # stages named in one line


def state(folder: Path) -> Iterator[Finding]:
    """Whether the store can be reached and written, what it holds, and what was set aside as damaged."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not there.is_dir():
        yield problem("store", f"{there} is no folder", "mend FMIT_STORE")
        return
    if not os.access(there, os.R_OK | os.X_OK):
        yield problem("store", f"{there} cannot be read", "mend its rights, or set FMIT_STORE")
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield problem("store", f"{there} is read-only", "mend its rights, or set FMIT_STORE to a folder of your own")
    if not folder.exists():
        yield ok("store", f"{folder}: not there yet, the first stage makes it")
        return
    yield from _directories(folder)


def _directories(folder: Path) -> Iterator[Finding]:
    from cache import maintenance

    try:
        directories = maintenance.stats(folder)
    except StoreError as error:
        yield problem("store", error.fact, error.todo or "mend the folder's rights")
        return
    rows = sum(sum(one.rows.values()) for one in directories)
    n_shards, n_bytes = sum(one.n_shards for one in directories), sum(one.n_bytes for one in directories)
    yield ok("store", f"{folder}: {rows} rows in {n_shards} shard(s), {n_bytes / 1e6:.1f} MB")
    for one in directories:
        if one.n_quarantined:
            what = f"{one.n_quarantined} damaged shard(s) set aside in {one.directory}/quarantine"
            yield note("store", what, "their rows are computed again when needed; look at the disk if more appear")


def dvc(root: Path) -> Iterator[Finding]:
    """Whether `dvc repro` can work here, and which stages of dvc.lock are stale. DVC itself is not run."""
    if not (shutil.which("dvc") or (Path(sys.executable).parent / "dvc").exists()):
        yield note("dvc", "DVC is not installed", "pip install dvc; the stages run by hand without it")
    inside = [one for one in (root, *root.parents) if (one / ".git").exists()]
    if not inside:
        yield note("dvc", "no git repository: dvc repro does not work here", "git init, then dvc init")
    if not any((one / ".dvc").is_dir() for one in (root, *root.parents)):
        yield note("dvc", "no DVC repository: dvc repro does not work here", "dvc init")
    if not (root / "dvc.yaml").is_file():
        yield note("dvc", "no dvc.yaml: there are no stages to reproduce", "take the one of this repository")
    lock = root / "dvc.lock"
    if not lock.is_file():
        yield note("dvc", "no dvc.lock: no stage was run by DVC yet", "dvc repro")
        return
    yield from _lock(root, lock)


def _lock(root: Path, lock: Path) -> Iterator[Finding]:
    import yaml

    try:
        stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
        params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        found = {name: why for name, stage in stages.items() if (why := stale(root, stage, params))}
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        yield problem("dvc", f"dvc.lock cannot be read: {error}", "restore it (git checkout -- dvc.lock), or remove it")
        return
    if not found:
        yield ok("dvc", f"{len(stages)} stage(s) in dvc.lock, none is stale (folders are not compared)")
        return
    named = "; ".join(f"{name}: {why}" for name, why in list(found.items())[:N_NAMED])
    more = f"; and {len(found) - N_NAMED} more" if len(found) > N_NAMED else ""
    yield note(
        "dvc", f"{len(found)} of {len(stages)} stage(s) stale: {named}{more}", "dvc repro brings them up to date"
    )


def stale(root: Path, stage: Mapping[str, Any], params: Any) -> str:
    """Why a stage of dvc.lock is stale ("": it is not): a parameter, a dependency's bytes, an out that is lost."""
    for key, value in (stage.get("params") or {}).get("params.yaml", {}).items():
        if _value(params, key) != value:
            return f"{key} changed"
    for dep in stage.get("deps") or ():
        path = root / dep["path"]
        if not path.exists():
            return f"{dep['path']} is gone"
        if path.is_file() and "md5" in dep and _md5(path) != dep["md5"]:
            return f"{dep['path']} changed"
    return next((f"{out['path']} is gone" for out in stage.get("outs") or () if not (root / out["path"]).exists()), "")


def _value(params: Any, key: str) -> Any:
    for part in key.split("."):
        params = params.get(part) if isinstance(params, Mapping) else None
    return params


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

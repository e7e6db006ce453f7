"""A run's folder as JSON files of others: read once, checked, and what cannot be read is said."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from schema.errors import RunError


def run_config(run: Path) -> dict[str, Any]:
    """config.json of a run's folder; raises RunError where there is none, or where it is no run's."""
    path = run / "model" / "config.json"
    if not path.is_file():
        raise RunError("no trained run", where=str(run), todo="train it, or pull it (dvc pull)")
    values = read_object(path, "pull the run again, or train again")
    lost = [name for name in ("inputs", "config", "seed") if name not in values]
    if lost or not isinstance(values["inputs"], dict) or not isinstance(values["config"], dict):
        found = f"no {', '.join(lost)}" if lost else "inputs or config is no object"
        raise RunError("this is no run's configuration", where=str(path), found=found, todo="train again")
    return values


def read_object(path: Path, todo: str) -> dict[str, Any]:
    """A JSON object from a file of a run; raises RunError for what is missing, cut short or of another kind."""
    values = read_json(path, todo)
    if not isinstance(values, dict):
        raise RunError("no JSON object", where=str(path), found=type(values).__name__, todo=todo)
    return values


def read_json(path: Path, todo: str) -> Any:
    """Any JSON from a file of a run; raises RunError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError("a file of the run is missing", where=str(path), todo=todo) from None
    except (OSError, ValueError) as error:
        raise RunError("not readable as JSON", where=str(path), found=str(error), todo=todo) from None


def refuse_unwritable(folder: Path) -> None:
    """Raise RunError where `folder` cannot be made or written: before the work, not after it."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        found = f"{there} is {'read-only' if there.is_dir() else 'no folder'}"
        raise RunError("cannot be written", where=str(folder), found=found, todo="name another folder")


def refuse_strange(folder: Path, ours: str) -> None:
    """Raise RunError for a folder that holds names which `ours`, a regular expression, does not know.

    What is published as a whole folder takes its place, and they would be gone.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    strange = [name for name in names if name != ".DS_Store" and not re.fullmatch(ours, name)]
    if strange:
        found = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
        todo = "name a new folder, or move them"
        raise RunError(
            "this folder would be replaced, other files in it included", where=str(folder), found=found, todo=todo
        )

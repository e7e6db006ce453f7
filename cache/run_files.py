"""JSON files of a run's folder, read and checked; checks of output folders before any work is done."""

import json
import os
import re
from pathlib import Path
from typing import Any

from schema.errors import RunError


def run_config(run: Path) -> dict[str, Any]:
    """config.json of a run's folder; RunError if it is missing or not a run's."""
    path = run / "model" / "config.json"
    if not path.is_file():
        raise RunError("no trained run", where=str(run), todo="train it, or pull it (dvc pull)")
    values = read_object(path, "pull the run again, or train again")
    absent = [name for name in ("inputs", "config", "seed") if name not in values]
    if absent or not isinstance(values["inputs"], dict) or not isinstance(values["config"], dict):
        found = f"no {', '.join(absent)}" if absent else "inputs or config is not an object"
        raise RunError("not a run's config.json", where=str(path), found=found, todo="train again")
    return values


def read_object(path: Path, todo: str) -> dict[str, Any]:
    values = read_json(path, todo)
    if not isinstance(values, dict):
        raise RunError("not a JSON object", where=str(path), found=type(values).__name__, todo=todo)
    return values


def read_json(path: Path, todo: str) -> Any:
    """JSON from a file of a run; RunError if it is missing or unreadable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError("a file of the run is missing", where=str(path), todo=todo) from None
    except (OSError, ValueError) as error:
        raise RunError("not readable as JSON", where=str(path), found=str(error), todo=todo) from None


def refuse_unwritable(folder: Path) -> None:
    """RunError if `folder` cannot be created or written."""
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        found = f"{parent} is {'read-only' if parent.is_dir() else 'not a folder'}"
        raise RunError("cannot be written", where=str(folder), found=found, todo="choose another folder")


def refuse_strange(folder: Path, own: str) -> None:
    """RunError for a folder with other files than those whose names match `own`: publishing would remove them."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    foreign = [name for name in names if name != ".DS_Store" and not re.fullmatch(own, name)]
    if foreign:
        found, todo = ", ".join([*foreign[:3], "..."][: len(foreign)]), "choose a new folder, or move them"
        what = "refusing to replace a folder that contains other files"
        raise RunError(what, where=str(folder), found=found, todo=todo)

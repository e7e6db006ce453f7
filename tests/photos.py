"""The photographs beside this folder, for tests of what works on real images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from tests.imports import ROOT

FOLDER = ROOT / "../shared/data/photos"
needs_photos = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the photographs are not beside this folder (../shared/data/photos)"
)


def read(name: str) -> PIL.Image.Image:
    """One photograph by its stem."""
    return PIL.Image.open(FOLDER / "images" / f"{name}.jpg").convert("RGB")


def names() -> list[str]:
    """The stems of all photographs."""
    return sorted(path.stem for path in (FOLDER / "images").iterdir())


def gold() -> list[dict[str, Any]]:
    """The rows of boxes.jsonl."""
    return [json.loads(line) for line in Path(FOLDER / "boxes.jsonl").read_text(encoding="utf-8").splitlines()]

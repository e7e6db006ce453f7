"""A folder for tests that write many small files: in memory where there is such a disk, for fsync is free there."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture(name="folder")
def folder_(tmp_path: Path) -> Iterator[Path]:
    """An empty folder."""
    if not (MEMORY.is_dir() and os.access(MEMORY, os.W_OK)):
        yield tmp_path
        return
    path = Path(tempfile.mkdtemp(dir=MEMORY))
    yield path
    shutil.rmtree(path)

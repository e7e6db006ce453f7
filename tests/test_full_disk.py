"""A disk that fills in the middle of a stage: a clear error, exit code 1, a whole store; the same command goes on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache import maintenance
from cache.keys import digest_file
from pipeline.engine import silent
from project import Project
from tests.imports import ROOT

N_SHARDS = 4  # that fit on the disk
# A flush a row: so a stage of few posts is in the middle of its work when the disk fills. `ulimit` lowers the size that
# a file may have once some shards are there; a file beyond it fails as on a full disk.
CHILD = f"""
import resource, sys
from cache.shard_directory import ShardDirectory
from pipeline import engine

engine.FLUSH_S = 0.0
if sys.argv.pop(1) == "ulimit":
    publish = ShardDirectory.publish

    def publish_and_fill(self, data):
        name = publish(self, data)
        if len(self.names()) >= {N_SHARDS}:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return name

    ShardDirectory.publish = publish_and_fill
import cli

cli.main(prog_name="fmit")
"""
STAGES = {"phrases": "phrases.parquet", "ground": "boxes.parquet", "regions": "pack"}


@pytest.fixture(name="small_disk")
def small_disk_(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield disk
    subprocess.run(["umount", disk], check=True)


def files(path: Path) -> dict[str, str]:
    return {one.name: digest_file(one) for one in (path.iterdir() if path.is_dir() else [path])}


def fill_the_disk(trained: Project, folder: Path, store: Path, stage: str, way: str) -> None:
    """Run a stage till the disk is full, look at what it left, and run it again on a larger disk."""
    shutil.copytree(trained.root / "data", folder / "data")
    shutil.copytree(trained.root / "out", folder / "out")
    shutil.copy(trained.root / "params.yaml", folder)
    before = files(folder / "out/own" / STAGES[stage])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FMIT_STORE": str(store), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", CHILD, way, stage, "own"]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 1, run.stderr
    reason = "File too large" if way == "ulimit" else "No space left on device"
    told = f"a shard cannot be written: {reason}; what was flushed is safe; free space"
    assert re.search(rf"^error: \S+: {told}", run.stderr, re.M), run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    assert files(folder / "out/own" / STAGES[stage]) == before, "the old out is as it was"
    assert maintenance.verify(store).clean
    assert not [path for path in store.rglob("*") if ".tmp-" in path.name]
    n_held = sum(sum(directory.rows.values()) for directory in maintenance.stats(store))
    assert n_held >= N_SHARDS
    if way == "mount":
        subprocess.run(["mount", "-o", "remount,size=64m", store.parent], check=True)
    tally = getattr(Project.open(folder / "params.yaml"), stage)("own", silent)
    assert 0 < tally.n_computed == tally.n_rows - n_held, "it went on from where it was"
    assert files(folder / "out/own" / STAGES[stage]) == before


@pytest.mark.parametrize(
    "stage", ["regions", *(pytest.param(one, marks=pytest.mark.long) for one in ("phrases", "ground"))]
)
def test_a_disk_that_fills_under_a_stage(
    trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setenv("FMIT_STORE", str(tmp_path / "store"))
    fill_the_disk(trained, tmp_path / "home", tmp_path / "store", stage, "ulimit")


def test_a_small_disk_that_fills_under_a_stage(
    trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_disk: Path
) -> None:
    monkeypatch.setenv("FMIT_STORE", str(small_disk / "store"))
    fill_the_disk(trained, tmp_path / "home", small_disk / "store", "regions", "mount")

"""A project of somebody's own in a folder: this code, a few drawn posts as JSONL, git, DVC, and quick settings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from schema.records import Split
from synthetic.posts import Draft, draft
from synthetic.scenes import compose, dataset_rng, png_bytes
from tests.imports import PACKAGES, ROOT, TOP

SIZES: dict[Split, int] = {"train": 8, "dev": 4, "test": 4}
PARAMS = """
datasets: [own]
train_on: [own]
approaches: [fmit]
seeds: [0]
evaluate: {splits: [dev]}
report: {redact: false}
draw: {}
data:
  own:
    source: {preset: jsonl}
    phrases: {preset: embedded}
    ground: {preset: synthetic}
    regions: {preset: synthetic, n_buckets: 8}
    train: {preset: tiny, epochs: 1}
"""


class Own:
    """The folder, and commands in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.patience_s = root, 900
        self.env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",  # no activated environment
            "HOME": str(root / "home"),
            "FMIT": str(root / "fmit-here"),
            "DVC_SITE_CACHE_DIR": str(root / "home" / "dvc"),
            "DVC_NO_ANALYTICS": "1",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "HF_HUB_OFFLINE": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def dvc(self, *arguments: str) -> str:
        """Run DVC as README does, by its path; returns what it printed."""
        program = Path(sys.executable).parent / "dvc"
        return self.call(str(program), *arguments)

    def call(self, *command: str) -> str:
        result = subprocess.run(
            command, cwd=self.root, env=self.env, capture_output=True, text=True, timeout=self.patience_s
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    def fmit(self, *arguments: str) -> str:
        return self.call(self.env["FMIT"], *arguments)

    def repro(self) -> tuple[list[str], str]:
        """`dvc repro`: the stages that ran, and all that was printed."""
        printed = self.dvc("repro")
        lines = [line for line in printed.splitlines() if line.startswith("Running stage")]
        return [line.split("'")[1] for line in lines], printed


def make(root: Path, params: str = PARAMS) -> Own:
    """A new project in `root`, ready for `dvc repro`."""
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in (*PACKAGES, "weights", "bin"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
    for name in (*(f"{top}.py" for top in TOP), "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    (root / "params.yaml").write_text(params, encoding="utf-8")
    (root / ".gitignore").write_text("/out/\n/runs/\n/data/\n/.fmit/\n", encoding="utf-8")
    (root / "home").mkdir()
    own = Own(root)
    Path(own.env["FMIT"]).write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" -m cli "$@"\n')
    Path(own.env["FMIT"]).chmod(0o755)
    write_posts(root / "data" / "own", SIZES)
    own.call("git", "init", "-q")
    own.dvc("init", "-q")
    return own


def write_posts(folder: Path, sizes: dict[Split, int]) -> None:
    """Posts of the smoke dataset's first block, as somebody else's JSONL with images."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for split, size in sizes.items():
        drafts = [draft(0, split, k) for k in range(size)]
        (folder / f"{split}.jsonl").write_text("".join(row(one) + "\n" for one in drafts), encoding="utf-8")
        for one in drafts:
            (folder / "images" / f"{one.id}.png").write_bytes(
                png_bytes(compose(dataset_rng(0, one.number), one.objects))
            )


def row(one: Draft) -> str:
    return json.dumps({"id": one.id, "tokens": list(one.words), "labels": list(one.tags), "images": [f"{one.id}.png"]})

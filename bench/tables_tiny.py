"""A tiny version of all tables and figures, by the same commands as a real one: `make tables-tiny`, from the root.

    python -m bench.tables_tiny [FOLDER]

Writes a project of three small synthetic datasets into FOLDER (one to train on, the same posts with random boxes, one
for cross-domain scores), measures Table 3 at tiny sizes, and runs `dvc repro`, `fmit evaluate` and `fmit tables` there.
A second call trains nothing. The figures prove that the tables can be made, and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from report.results import published
from report.runs import RANDOM_BOXES

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
SCORED_ELSEWHERE = ("bert-crf", "umt", "umgf", "fmit")  # Table 4
DATA = ("data/", "out/", "runs/")  # dependencies in the project; all others are code in the checkout
BLOCK = {
    "source": {"preset": "smoke"},
    "phrases": {"preset": "embedded"},
    "ground": {"preset": "synthetic"},
    "regions": {"preset": "synthetic", "grid": True, "n_buckets": 8},
    "train": {"preset": "tiny", "epochs": 2, "patience": 2},  # for baselines too, which have their own defaults
}


def params() -> dict[str, Any]:
    """Every row of Tables 2 and 5 on one seed; `fmit` is also the row of one layer, since the preset has one."""
    rows = published().approaches("table2", "table5")
    tiny, other = {"n_train": 80, "n_dev": 80, "n_test": 80}, {"n_train": 0, "n_dev": 0, "n_test": 80, "seed": 1}
    random = BLOCK | {"ground": {"grounder": "random"}}
    test_only = BLOCK | {"source": {"preset": "smoke", "files": {"test": "test.jsonl"}}}
    return {
        "datasets": ["tiny", "tiny-random", "other"],
        "train_on": ["tiny", "tiny-random"],
        "approaches": [name for name in rows if name not in ("fmit-l1", RANDOM_BOXES)],
        "seeds": [0],
        "evaluate": {"splits": ["dev", "test"]},
        "report": {"redact": False},
        "draw": {"tiny": tiny, "tiny-random": tiny, "other": other},
        "data": {"tiny": BLOCK, "tiny-random": random, "other": test_only},
    }


def runs() -> list[str]:
    """The runs that the tables need: every approach on `tiny`, and `fmit` on the same posts with random boxes."""
    return [*(f"tiny-{approach}-0" for approach in params()["approaches"]), "tiny-random-fmit-0"]


def stages(up: str) -> dict[str, Any]:
    """The stages of dvc.yaml for a folder from which `up` leads to the checkout."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    for stage in document["stages"].values():
        block = stage.get("do", stage)
        block["cmd"] = block["cmd"].replace("sh bin/", f"sh {up}/bin/")
        block["deps"] = [dep if dep.startswith(DATA) else f"{up}/{dep}" for dep in block["deps"]]
    return document


def write(folder: Path) -> None:
    """params.yaml and dvc.yaml of the project, and a DVC repository of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    up = os.path.relpath(ROOT, folder.resolve())
    for name, values in (("params.yaml", params()), ("dvc.yaml", stages(up))):
        (folder / name).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    if not (folder / ".dvc").is_dir():
        run(folder, BIN / "dvc", "init", "--quiet", "--no-scm")


def run(folder: Path, *command: str | Path) -> None:
    subprocess.run(list(map(str, command)), cwd=folder, check=True)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("tables-tiny"))
def main(folder: Path) -> None:
    """Make every table and figure from a few synthetic posts in FOLDER."""
    write(folder)
    if not (folder / "fusion.json").is_file():
        out = str((folder / "fusion.json").resolve())
        run(ROOT, sys.executable, "-m", "bench.fusion", "--tiny", "--out", out)
    run(folder, BIN / "dvc", "repro", "regions@other", *(f"evaluate@{name}" for name in runs()))
    for approach in SCORED_ELSEWHERE:
        run(folder, BIN / "fmit", "evaluate", "--run", f"runs/tiny-{approach}-0", "--dataset", "other")
    run(folder, BIN / "fmit", "tables")


if __name__ == "__main__":
    main()

"""`fmit tables --tiny`: two small drawn datasets and quick settings, to prove the tables' machinery in minutes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cache import atomic
from commands.study.study import Study
from project import Project

SIZES: Mapping[str, int] = {"train": 150, "dev": 50, "test": 50}
DATASETS = ("tiny", "tiny-other")  # the second has other posts, and calls MISC OTHER, as Twitter-2015 does
ALIAS = ("MISC", "OTHER")


def open_tiny(
    root: Path,
    approaches: Sequence[str],
    *,
    sizes: Mapping[str, int] = SIZES,
    train: Mapping[str, Any] | None = None,
) -> Study:
    """The study in `root` over a project in `root/project`, its two datasets drawn there unless they are.

    `train` are keys beside those of the preset `tiny`.
    """
    home = root / "project"
    _write(home / "params.yaml", _project({"preset": "tiny", **(train or {})}))
    crossings = [{"train": one, "score": other} for one, other in (DATASETS, DATASETS[::-1])]
    asked = {"project": "project/params.yaml", "datasets": [*DATASETS], "approaches": [*approaches], "seeds": [0]}
    _write(root / "params.yaml", {**asked, "crossings": crossings, "n_cases": 6, "tiny": True})
    project = Project.open(home / "params.yaml")
    for dataset in DATASETS:
        _draw(project, dataset, sizes)
    return Study.read(root / "params.yaml")


def _project(train: Mapping[str, Any]) -> dict[str, Any]:
    block = {
        "source": {"preset": "smoke"},
        "phrases": {"preset": "embedded"},
        "ground": {"preset": "embedded"},
        "regions": {"preset": "embedded", "n_buckets": 8},
        "train": dict(train),
    }
    draw = {name: {"preset": "tiny", "seed": seed} for seed, name in enumerate(DATASETS)}
    return {"datasets": [*DATASETS], "draw": draw, "data": dict.fromkeys(DATASETS, block)}


def _draw(project: Project, dataset: str, sizes: Mapping[str, int]) -> None:
    """Draw whole blocks, then keep the first posts of each split; a second call changes nothing."""
    from pipeline.engine import silent

    folder = project.data(dataset)
    if not folder.is_dir():
        project.draw(dataset, silent)
    for split, size in sizes.items():
        path = folder / f"{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:size]]
        if dataset != DATASETS[0]:
            for row in rows:
                row["labels"] = [label.replace(*ALIAS) for label in row["labels"]]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        if text != path.read_text(encoding="utf-8"):
            atomic.write_text(path, text)


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.dump(dict(values), sort_keys=False, Dumper=_Plain)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        atomic.write_text(path, text)


class _Plain(yaml.SafeDumper):
    """YAML without anchors: a block that stands twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

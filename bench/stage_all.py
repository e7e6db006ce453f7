"""All stages from an empty store, ingest to pack: posts a second, each stage's share; then again, from the store."""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import yaml

from bench import timing
from cache.tables import read_posts
from pipeline.engine import silent
from project import Project
from synthetic import draw
from synthetic.posts import BLOCK

STAGES = ("ingest", "phrases", "ground", "regions")


def params(options: argparse.Namespace) -> dict[str, object]:
    """Settings of one dataset: synthetic posts, or with `weights` the photographs on a torchvision net.

    The photographs are grounded as whole images; `ground` measures a real grounder.
    """
    if options.weights is None:
        source: dict[str, object] = {"preset": "smoke", "files": {"train": "train.jsonl"}}
        ground, regions = {"preset": "synthetic"}, {"preset": "synthetic"}
    else:
        source, ground = {"preset": "conll", "files": {"test": "test.txt"}}, {"grounder": "whole-image"}
        regions = {"net": options.net, "workers": options.workers, "weights": str(options.weights.absolute())}
    sections = {"source": source, "phrases": {"preset": "embedded"}, "ground": ground, "regions": regions, "train": {}}
    return {"datasets": ["bench"], "data": {"bench": sections}}


def fill(options: argparse.Namespace, folder: Path) -> None:
    """The raw dataset: synthetic, or the photographs' own folder."""
    if options.weights is None:
        sizes = draw.DrawConfig(n_train=max(1, options.items // BLOCK) * BLOCK, n_dev=0, n_test=0)
        draw.run(sizes, folder, silent)
    else:
        folder.parent.mkdir()
        folder.symlink_to(options.photos.absolute().parent)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Seconds of each stage, first computed and then from the store."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "params.yaml").write_text(yaml.safe_dump(params(options)))
        fill(options, root / "data" / "bench")
        project = Project.open(root / "params.yaml")
        result: dict[str, object] = {}
        for name in ("computed", "from store"):
            seconds = {stage: timing.timed(partial(getattr(project, stage), "bench", silent))[0] for stage in STAGES}
            result[name] = _shares(project, seconds)
        return result


def _shares(project: Project, seconds: dict[str, float]) -> dict[str, object]:
    n_posts, total = len(read_posts(project.out("bench", "posts.parquet")).posts), sum(seconds.values())
    return {
        "n_posts": n_posts,
        "posts_per_s": n_posts / total,
        "seconds": seconds,
        "share": {stage: value / total for stage, value in seconds.items()},
    }

"""The smoke dataset in one table: ceilings, each approach over seeds, and each stage by itself.

    python -m bench.smoke --seeds 0,1,2

Existing runs (same settings, same pack) are scored, not trained again. Writes bench/results/smoke.json.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.smoke_parts import parts
from fmit import Project
from model.evaluate import earlier, weights_digest

APPROACHES = ("fmit", "bert-crf", "fmit-no-rel", "fmit-shuffled")
RESULTS = Path("bench/results/smoke.json")


def f1_of(run: Path, split: str) -> dict[str, float]:
    """Strict micro scores of a run's split."""
    scores = json.loads((run / "scores" / f"metrics-{split}.json").read_text(encoding="utf-8"))
    micro = scores["strict"]["micro"]
    return {name: micro[name] for name in ("precision", "recall", "f1")}


def trained(project: Project, dataset: str, approach: str, seed: int) -> Path:
    """The run's folder, trained and scored unless it exists for these settings and this pack."""
    run = project.run(dataset, approach, seed)
    if not project.is_up_to_date(run, dataset, approach, seed):
        for result in project.train(dataset, approach, seed):
            click.echo(f"{run.name}: epoch {result.epoch} dev F1 {result.dev_f1:.4f}", err=True)
    if not {"dev", "test"} <= earlier(run, {"weights": weights_digest(run)}).keys():  # scores of older weights stay
        project.evaluate(run, ("dev", "test"))
    return run


def mean_and_sd(values: Sequence[float]) -> dict[str, float]:
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "sd": sd}


def summary(rows: Iterable[dict[str, float]]) -> dict[str, dict[str, float]]:
    listed = list(rows)
    return {name: mean_and_sd([row[name] for row in listed]) for name in listed[0]}


def show(result: dict[str, Any]) -> None:
    best = result["ceilings"]
    click.echo(f"F1 ceiling: {best['text']:.3f} text alone, {best['images']:.3f} with images\n")
    click.echo(f"{'test split':<16}{'P':>8}{'R':>8}{'F1':>8}{'sd':>8}{'of ceiling':>12}")
    for name, scores in result["approaches"].items():
        p, r, f1 = (scores[key]["mean"] for key in ("precision", "recall", "f1"))
        share = f1 / best["images"]
        click.echo(f"{name:<16}{p:8.3f}{r:8.3f}{f1:8.3f}{scores['f1']['sd']:8.3f}{share:12.3f}")
    click.echo("")
    for name, value in result["parts"].items():
        click.echo(f"{name:<44}{value:8.3f}")


@click.command()
@click.option("--dataset", default="smoke", show_default=True)
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(dataset: str, seeds: str, out: Path) -> None:
    """Train and score what is missing, then print and write the table."""
    project = Project.open()
    numbers = [int(seed) for seed in seeds.split(",")]
    runs = {name: [trained(project, dataset, name, seed) for seed in numbers] for name in APPROACHES}
    ceilings = json.loads((project.data(dataset) / "ceilings.json").read_text(encoding="utf-8"))["test"]
    result = {
        "dataset": dataset,
        "seeds": numbers,
        "ceilings": ceilings,
        "approaches": {name: summary(f1_of(run, "test") for run in folders) for name, folders in runs.items()},
        "parts": parts(project, dataset, np.random.default_rng(0)),
    }
    show(result)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

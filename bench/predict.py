"""How long a prediction takes: one post after another in a warm process, one post with a process's start, many posts.

    python -m bench.predict                              # runs/smoke-fmit-0, by the embedded parts
    python -m bench.predict --before ../earlier          # its start beside that of another checkout
    python -m bench.predict --run runs/mine-fmit-0 --posts new.jsonl --images images --allow-synthetic

Posts are raw: words are parsed, and phrases grounded and featured each time, without the store. Processor seconds are
given beside wall seconds, which other processes on the machine lengthen. Writes bench/results/predict.json.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import torch

import fmit
from bench.timing import machine, ratio
from cache import atomic
from model.checkpoint import versions

N_COLD = 5  # whole processes
N_UNTIMED = 5  # posts before the clock runs: the first ones build the parts
MIB = 2**20


class Watch:
    """Wall and processor seconds of calls."""

    def __init__(self) -> None:
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []

    def time(self, call: Callable[[], object]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        self.wall_s.append(time.perf_counter() - wall)
        self.cpu_s.append(time.process_time() - cpu)

    def to_json(self) -> dict[str, Any]:
        """Medians, the fastest, and the 90th percentile, in milliseconds."""
        return {
            "n": len(self.wall_s),
            **{f"{name}_ms": _summary(seconds) for name, seconds in (("wall", self.wall_s), ("cpu", self.cpu_s))},
        }


def _summary(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(1000 * value for value in seconds)
    p90 = ordered[int(0.9 * (len(ordered) - 1))]
    figures = {"median": statistics.median(ordered), "least": ordered[0], "p90": p90}
    return {name: round(value, 2) for name, value in figures.items()}


def warm(model: fmit.Model, rows: list[dict[str, Any]], images: Path | None) -> dict[str, Any]:
    """Posts one by one, each a call of its own, after some that are not timed."""
    watch = Watch()
    for row in rows[:N_UNTIMED]:
        list(model.predict([row], images=images))
    for row in rows:
        watch.time(lambda row=row: list(model.predict([row], images=images)))  # type: ignore[misc]
    return watch.to_json()


def cold(arguments: list[str], checkouts: list[Path]) -> dict[str, dict[str, float]]:
    """Medians over whole processes for one post: start, imports, weights, prediction; checkouts in turns."""
    seconds: dict[Path, list[tuple[float, float]]] = {checkout: [] for checkout in checkouts}
    for checkout in checkouts * N_COLD:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        subprocess.run(
            [sys.executable, "-P", "-m", "cli", *arguments], check=True, capture_output=True, env=environment
        )
        wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        seconds[checkout].append((wall_s, cpu_s))
    names = ("this", "before")
    result = {}
    for name, runs in zip(names, seconds.values(), strict=False):
        wall, cpu = ([run[clock] for run in runs] for clock in (0, 1))
        result[name] = {"wall_s": round(statistics.median(wall), 2), "cpu_s": round(statistics.median(cpu), 2)}
    if len(checkouts) > 1:
        ours, theirs = seconds.values()
        result["this_over_before"] = {"wall": round(ratio(ours, theirs, 0), 2), "cpu": round(ratio(ours, theirs, 1), 2)}
    return result


def stream(model: fmit.Model, rows: list[dict[str, Any]], images: Path | None, n_posts: int) -> dict[str, Any]:
    """`n_posts` in one call, and by how much the process grew from the 100th post to the last."""
    cpu, start, early = time.process_time(), time.perf_counter(), 0
    for at, _ in enumerate(model.predict(_many(rows, n_posts), images=images), 1):
        if at == min(100, n_posts):
            early = peak_bytes()
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    grown = round((peak_bytes() - early) / MIB, 1)
    return {"n_posts": n_posts, "wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2), "grown_mib": grown}


def _many(rows: list[dict[str, Any]], n_posts: int) -> Iterator[dict[str, Any]]:
    for at in range(n_posts):
        yield {**rows[at % len(rows)], "id": f"post-{at}"}


def peak_bytes() -> int:
    """Peak memory of this process (Linux counts kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@click.command()
@click.option("--run", type=click.Path(path_type=Path), default=Path("runs/smoke-fmit-0"), show_default=True)
@click.option("--posts", type=click.Path(path_type=Path), default=Path("data/smoke/test.jsonl"), show_default=True)
@click.option("--images", type=click.Path(path_type=Path), default=Path("data/smoke/images"), show_default=True)
@click.option("--n", "n_warm", default=50, show_default=True, help="Posts that are timed one by one.")
@click.option("--stream", "n_stream", default=0, show_default=True, help="Posts of one long call; 0: none.")
@click.option("--threads", default=0, help="Of torch.  [default: torch's own]")
@click.option("--before", type=click.Path(path_type=Path), help="Another checkout, whose start is timed in turns.")
@click.option("--allow-synthetic", is_flag=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("bench/results/predict.json"), show_default=True)
def main(
    run: Path,
    posts: Path,
    images: Path,
    n_warm: int,
    n_stream: int,
    threads: int,
    before: Path | None,
    allow_synthetic: bool,
    out: Path,
) -> None:
    """Time predictions of raw posts on the CPU and write them as JSON."""
    if threads:
        torch.set_num_threads(threads)
    rows = [json.loads(line) for line in posts.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "one.jsonl"
        one.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
        call = ["predict", str(one), "--run", str(run), "--images", str(images), "--device", "cpu"]
        checkouts = [Path(fmit.__file__).parent, *([before] if before else [])]
        start = cold([*call, *(["--allow-synthetic"] if allow_synthetic else [])], checkouts)
    model = fmit.load(run, device="cpu", allow_synthetic=allow_synthetic)
    result: dict[str, Any] = {
        "schema_version": 1,
        "machine": machine("cpu"),
        "versions": versions(),
        "run": run.name,
        "cold": start,
        "warm": warm(model, rows[:n_warm], images),
    }
    if n_stream:
        result["stream"] = stream(model, rows, images, n_stream)
    atomic.write_json(out, result)
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

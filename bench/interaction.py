"""Benchmark the interaction module against a direct implementation and against FLAT's unique tuples.

Run `python -m bench.interaction` from the root.

Projection and interaction (Eq. 1-12), batch 16, 8 objects a post (whole image, four general words, three phrases), one
thread on CPU. Runs of all sides are interleaved; a table of medians is printed, and everything is written as JSON.
`--quick` takes a minute or two; a full run takes an hour and a half, mostly for the direct implementation with l = 6
and 128 cells. Where other work shares the machine, `--clock cpu` counts this process's time alone; both clocks are in
the JSON. `--out` is written after every case, and an interrupted call resumes from it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.libraries import Timing, interleaved, libraries, medians
from bench.ordinary import Ordinary, UniqueTuples
from bench.timing import machine, memory_mb
from cache import atomic
from kernels import linear_2d
from model.interaction import FlatInteraction, Projection

DIM, HEADS, TEXT_DIM, OBJECT_DIM, N_OBJECTS = 512, 8, 768, 2048, 8  # the paper's sizes: BERT-base, ResNet-152
SIDES: dict[str, type[FlatInteraction]] = {"ours": FlatInteraction, "ordinary": Ordinary, "tuples": UniqueTuples}
GFLOP = {(3, 32): 14.2, (3, 128): 52.4}  # (layers, text cells): what l = 3 at batch 16 needs, Eq. 1-2 included
GEMM_SHAPES = ((640, 512, 512), (2176, 512, 2048), (2048, 2048, 2048))  # rows, in, out


def batch_of(n_text: int, n_posts: int, device: str) -> tuple[Tensor, ...]:
    """Random word vectors and objects; the first five objects stand at all words, three at phrases of 1 to 5 words."""
    torch.manual_seed(0)
    first = torch.randint(1, n_text - 6, (n_posts, N_OBJECTS))
    spans = torch.stack([first, first + torch.randint(0, 5, first.shape)], dim=-1)
    spans[:, :5] = torch.tensor([1, n_text - 2])
    real = torch.ones(n_posts, n_text, dtype=torch.bool), torch.ones(n_posts, N_OBJECTS, dtype=torch.bool)
    text, objects = torch.randn(n_posts, n_text, TEXT_DIM), torch.randn(n_posts, N_OBJECTS, OBJECT_DIM)
    return tuple(part.to(device) for part in (text, real[0], objects, spans, real[1]))


def side_of(name: str, layers: int, device: str) -> tuple[Projection, FlatInteraction]:
    torch.manual_seed(0)
    sides = Projection(TEXT_DIM, OBJECT_DIM, DIM), SIDES[name](DIM, HEADS, layers, 4 * DIM)
    return sides[0].to(device), sides[1].to(device)


def job_of(projection: Projection, model: FlatInteraction, batch: tuple[Tensor, ...], task: str) -> Callable[[], None]:
    """Inference is `forward_text`; training is forward and backward of both streams."""
    text, text_mask, objects, spans, object_mask = batch

    def infer() -> None:
        with torch.no_grad():
            cells, things = projection(text, objects)
            model.forward_text(cells, text_mask, things, spans, object_mask)

    def train() -> None:
        projection.zero_grad()
        model.zero_grad()
        cells, things = projection(text, objects)
        out = model(cells, text_mask, things, spans, object_mask)
        (out[0].float().sum() + out[1].float().sum()).backward()

    return infer if task == "inference" else train


def gemm_rates(rounds: int, device: str) -> dict[tuple[str, tuple[int, int, int]], list[Timing]]:
    """Seconds of one product for each library and shape."""
    jobs: dict[Any, tuple[str, Callable[[], None]]] = {}
    for shape in GEMM_SHAPES:
        x, weight = torch.randn(shape[0], shape[1], device=device), torch.randn(shape[2], shape[1], device=device)
        for name in libraries(device):
            jobs[name, shape] = name, functools.partial(product, x, weight)
    return interleaved(jobs, rounds)


def product(x: Tensor, weight: Tensor) -> None:
    linear_2d(x, weight)


def run_case(args: argparse.Namespace, layers: int, n_text: int, task: str) -> list[dict[str, Any]]:
    """All sides with all libraries: one record each."""
    batch, jobs = batch_of(n_text, args.batch, args.device), {}
    for side in SIDES:
        job = job_of(*side_of(side, layers, args.device), batch, task)
        jobs.update({(name, side): (name, job) for name in libraries(args.device)})
    with autocast(args):
        times = interleaved(jobs, args.rounds)
    case = {"layers": layers, "text": n_text, "batch": args.batch, "task": task, "dtype": args.dtype}
    return [{**case, "library": name, "side": side, **medians(own)} for (name, side), own in times.items()]


def autocast(args: argparse.Namespace) -> contextlib.AbstractContextManager[Any]:
    if args.dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(args.device, dtype=getattr(torch, args.dtype))


def peak_growth_mb(side: str, layers: int, n_text: int) -> float:
    """How far one inference raises the memory of a fresh process (batch 16, CPU)."""
    command = [sys.executable, "-m", "bench.interaction", "--peak", side, str(layers), str(n_text)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak_growth(side: str, layers: int, n_text: int) -> None:
    torch.set_num_threads(1)
    parts = side_of(side, layers, "cpu")
    job_of(*parts, batch_of(8, 2, "cpu"), "inference")()  # loads the libraries
    job, before = job_of(*parts, batch_of(n_text, 16, "cpu"), "inference"), memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now
    job()
    sys.stdout.write(f"{memory_mb('VmHWM') - before:.1f}\n")


def report(records: list[dict[str, Any]], rates: dict[Any, list[Timing]], clock: str, console: Console) -> None:
    field = f"{clock}_s"
    best = max(2e-9 * m * k * n / medians(own)[field] for (_, (m, k, n)), own in rates.items())
    console.print(f"best fp32 GEMM: {best:.0f} GFLOP/s ({clock} clock)")
    table = Table("l", "text", "task", "library", "ours ms", "direct ms", "tuples ms", "x", "x tuples", "share")
    by_case: dict[tuple[Any, ...], dict[str, float]] = {}
    for record in records:
        key = record["layers"], record["text"], record["task"], record["library"]
        by_case.setdefault(key, {})[record["side"]] = record[field]
    for (layers, text, task, name), own in by_case.items():
        gflop = GFLOP.get((layers, text), 0.0) * (3 if task == "training" else 1)
        share = f"{gflop / own['ours'] / best:.0%}" if gflop and records[0]["batch"] == 16 else ""
        times = [f"{1e3 * own[side]:.1f}" for side in SIDES]
        gains = [f"{own[side] / own['ours']:.1f}" for side in ("ordinary", "tuples")]
        table.add_row(str(layers), str(text), task, name, *times, *gains, share)
    for layers, text, task in dict.fromkeys(key[:3] for key in by_case):
        by_library = {key[3]: own for key, own in by_case.items() if key[:3] == (layers, text, task)}
        if len(by_library) > 1:
            ours = min(own["ours"] for own in by_library.values())
            gain = f"{by_library['blas']['ordinary'] / ours:.1f}"
            table.add_row(str(layers), str(text), task, "best", f"{1e3 * ours:.1f}", "", "", gain, "", "")
    console.print(
        table, "best: ours with its best library against direct implementation with torch's default, the BLAS", sep="\n"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="l = 3 at 32 text cells only")
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 3, 6])
    parser.add_argument("--text", type=int, nargs="+", default=[32, 128], help="text cells a post")
    parser.add_argument("--tasks", nargs="+", default=["inference", "training"], choices=["inference", "training"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--no-memory", action="store_true", help="skip the memory of fresh processes")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    return argparse.Namespace(**{**vars(args), **({"layers": [3], "text": [32]} if args.quick else {})})


def main() -> None:
    args, console = arguments(), Console(width=110)
    if args.peak:
        return print_peak_growth(args.peak[0], int(args.peak[1]), int(args.peak[2]))
    torch.set_num_threads(1)
    rates, result = gemm_rates(args.rounds, args.device), resumed(args)
    result["gemm"] = [{"library": name, "shape": shape, **medians(own)} for (name, shape), own in rates.items()]
    for case in itertools.product(args.layers, args.text, args.tasks):
        if case not in {(record["layers"], record["text"], record["task"]) for record in result["records"]}:
            result["records"] += run_case(args, *case)
            save(result, args.out)
    report(result["records"], rates, args.clock, console)
    if args.device == "cpu" and not args.no_memory:
        result["peak_mb"] = {f"{side} l=3 {n}+8": peak_growth_mb(side, 3, n) for side in SIDES for n in args.text}
        console.print("peak growth of one inference, MB:", result["peak_mb"])
    save(result, args.out)
    return None


def resumed(args: argparse.Namespace) -> dict[str, Any]:
    """What an interrupted call with the same setting, machine and versions has measured; else no records."""
    setting = {"batch": args.batch, "dtype": args.dtype, "rounds": args.rounds}
    result: dict[str, Any] = {"schema_version": 2, "machine": machine(args.device), "setting": setting, "records": []}
    earlier = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
    same = all(earlier.get(name) == result[name] for name in ("schema_version", "machine", "setting"))
    return earlier if same else result


def save(result: dict[str, Any], out: Path | None) -> None:
    if out:
        atomic.write_json(out, result)


if __name__ == "__main__":
    main()

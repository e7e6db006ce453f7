"""Entries of a comparison timed in turn; shares are medians of their own ratios; the machine's peak is measured."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import kernels

N_CHOOSING = 3  # short trials of each bare form, of which the fastest counts, before the best forms run in full
N_BEST = 2  # bare forms that run in full
PEAK_SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices whose product is the peak
N_PEAK = 25

Run = Callable[[], object]
Seconds = dict[str, list[tuple[float, float]]]  # of one item (wall, CPU), one entry a run


def timed(run: Run) -> tuple[float, float]:
    """Wall and CPU seconds."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def choose(forms: Mapping[str, Run], clock: int, n_items: int) -> list[str]:
    """The N_BEST fastest of several forms in short trials, after a pass that compiles, packs and warms up."""
    for run in forms.values():
        run()
    trial = {name: min(timed(run)[clock] for _ in range(N_CHOOSING)) for name, run in forms.items()}
    for name, seconds in trial.items():
        print(f"  {name:<34}{n_items / seconds:8.1f} a second in a short trial", flush=True)
    return sorted(trial, key=trial.__getitem__)[:N_BEST]


def compare(
    runs: Mapping[str, tuple[Run, int]], n_runs: int, n_flops: float, device: str, dtype: str
) -> dict[str, object]:
    """`summary` of entries (each a run and its number of items), interleaved so that all see the same machine.

    Each round measures the machine's peak too, and the highest counts: a single measurement takes a tenth of a second.
    """
    seconds: Seconds = {name: [] for name in runs}
    peak = 0.0
    for _ in range(n_runs):
        peak = max(peak, peak_flops(device, dtype))
        for name, (run, n_items) in runs.items():
            wall, cpu = timed(run)
            seconds[name].append((wall / n_items, cpu / n_items))
    return summary(seconds, n_flops, peak)


def summary(seconds: Seconds, n_flops: float, peak: float) -> dict[str, object]:
    """Median items a second, the stage's share of the best bare pass, and shares of the machine's peak.

    `n_flops`: of one item's bare pass; `peak`: FLOPs a second.
    """
    rates = {
        name: {
            "per_s": 1 / statistics.median(wall for wall, _ in listed),
            "per_cpu_s": 1 / max(statistics.median(cpu for _, cpu in listed), 1e-9),
        }
        for name, listed in seconds.items()
    }
    best = max((name for name in seconds if name.startswith("bare")), key=lambda name: rates[name]["per_s"])
    return {
        "rates": rates,
        "best_bare": best,
        "stage_of_best_bare_wall": ratio(seconds[best], seconds["stage"], 0),
        "stage_of_best_bare_cpu": ratio(seconds[best], seconds["stage"], 1),
        **(
            {"stage_over_float32_wall": ratio(seconds["stage, float32"], seconds["stage"], 0)}
            if "stage, float32" in seconds
            else {}
        ),
        "stage_over_plain_loop_wall": ratio(seconds["plain loop"], seconds["stage"], 0),
        "flops_an_item": n_flops,
        "peak_flops_per_s": peak,
        "share_of_peak": {
            name: rate["per_s"] * n_flops / peak
            for name, rate in rates.items()
            if name == "stage" or name.startswith("bare")
        },
    }


def ratio(above: Sequence[tuple[float, float]], below: Sequence[tuple[float, float]], clock: int) -> float:
    """Median of the runs' own ratios, by wall (0) or CPU (1) seconds."""
    return statistics.median(a[clock] / max(b[clock], 1e-9) for a, b in zip(above, below, strict=True))


def count_flops(run: Run) -> float:
    """Floating point operations of matrix products, convolutions and attention in a call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def peak_flops(device: str, dtype: str) -> float:
    """FLOPs a second of the fastest of a few large matrix products, by either matrix library that torch has."""
    side = PEAK_SIDE[torch.device(device).type]
    left, right = (torch.randn(side, side, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    products: tuple[Callable[[], Tensor], ...] = (lambda: torch.mm(left, right), lambda: kernels.linear_2d(left, right))
    for product in products:
        product()
    return 2 * side**3 / min(timed(product)[0] for product in products for _ in range(N_PEAK))


def machine(device: str) -> dict[str, object]:
    """The hardware and library versions of the measurement."""
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    return {"device": device_name(device), "cores": os.cpu_count(), "threads": torch.get_num_threads(), **versions}


def device_name(device: str) -> str:
    """The GPU, or the CPU's model."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory_mb(field: str) -> float:
    """VmRSS (memory now) or VmHWM (its highest value so far) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) / 1024

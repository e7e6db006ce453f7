"""Sides of a comparison timed in turn, each with every matrix library that this machine's torch has."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from bench.timing import timed
from kernels import HAS_ONEDNN

Timing = tuple[float, float]  # seconds: wall, processor


def libraries(device: str) -> list[str]:
    return ["cublas"] if device == "cuda" else ["blas", "onednn"] if HAS_ONEDNN else ["blas"]


@contextlib.contextmanager
def library(name: str) -> Iterator[None]:
    """All products of `kernels.linear` by this library; batched ones are torch's own on every side."""
    if name == "cublas":
        yield
    else:
        with torch.backends.mkldnn.flags(enabled=name == "onednn"):
            yield


def interleaved(jobs: Mapping[Any, tuple[str, Callable[[], object]]], rounds: int) -> dict[Any, list[Timing]]:
    """One run of every job, then the next round; the first round, which warms up, is not counted."""
    times: dict[Any, list[Timing]] = {key: [] for key in jobs}
    for number in range(rounds + 1):
        for key, (name, job) in jobs.items():
            with library(name):
                timing = timed(job)
            if number:
                times[key].append(timing)
    return times


def medians(times: list[Timing]) -> dict[str, float]:
    wall, processor = zip(*times, strict=True)
    return {"wall_s": statistics.median(wall), "cpu_s": statistics.median(processor)}

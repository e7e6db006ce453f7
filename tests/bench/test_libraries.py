"""Runs are interleaved, and a library is the one that its name says."""

from __future__ import annotations

import functools

import pytest
import torch

from bench.libraries import interleaved, libraries, library, medians
from kernels import uses_onednn

pytestmark = pytest.mark.filterwarnings("ignore:TF32")


def test_a_library_is_what_its_name_says() -> None:
    x = torch.zeros(1, 1)
    for name in libraries("cpu"):
        with library(name):
            assert uses_onednn(x) == (name == "onednn")


def test_the_first_round_is_not_counted() -> None:
    calls: list[str] = []
    jobs = {name: (libraries("cpu")[0], functools.partial(calls.append, name)) for name in "ab"}
    times = interleaved(jobs, 3)
    assert calls == list("ab" * 4)
    assert [len(own) for own in times.values()] == [3, 3]


def test_medians_of_both_clocks() -> None:
    assert medians([(3.0, 1.0), (1.0, 5.0), (2.0, 2.0)]) == {"wall_s": 2.0, "cpu_s": 2.0}

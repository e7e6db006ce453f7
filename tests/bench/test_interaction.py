"""The bench measures what it says, at a tiny size."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch

from bench import interaction
from kernels.gemm import uses_onednn

pytestmark = pytest.mark.filterwarnings("ignore:TF32")


def test_the_command_writes_every_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    flags = "--layers 1 --text 8 --batch 2 --rounds 1 --no-memory --out"
    command = ["bench", *flags.split(), str(out)]
    monkeypatch.setattr("sys.argv", command)
    monkeypatch.setattr(interaction, "GEMM_SHAPES", ((8, 8, 8),))
    before = torch.get_num_threads()
    try:
        interaction.main()
        result = json.loads(out.read_text())
        with monkeypatch.context() as patch:  # what is measured is not measured again
            patch.setattr(interaction, "run_case", lambda *_: pytest.fail("measured again"))
            interaction.main()
    finally:
        torch.set_num_threads(before)
    assert json.loads(out.read_text())["records"] == result["records"]
    found = {(record["library"], record["side"], record["task"]) for record in result["records"]}
    tasks = ("inference", "training")
    assert found == {(n, side, t) for n in interaction.libraries("cpu") for side in interaction.SIDES for t in tasks}
    assert all(record["wall_s"] > 0 for record in result["records"])
    assert "best fp32 GEMM" in capsys.readouterr().out


def test_a_library_is_what_its_name_says() -> None:
    x = torch.zeros(1, 1)
    for name in interaction.libraries("cpu"):
        with interaction.library(name):
            assert uses_onednn(x) == (name == "onednn")


def test_the_first_round_is_not_counted() -> None:
    calls: list[str] = []
    jobs = {name: (interaction.libraries("cpu")[0], functools.partial(calls.append, name)) for name in "ab"}
    times = interaction.interleaved(jobs, 3, "cpu")
    assert calls == list("ab" * 4)
    assert [len(own) for own in times.values()] == [3, 3]


def test_memory_is_that_of_one_inference() -> None:
    assert 0 <= interaction.peak_growth_mb("ours", 1, 16) < 100

"""The bench measures what it says, at a tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench import interaction
from bench.libraries import libraries

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
    assert found == {(n, side, t) for n in libraries("cpu") for side in interaction.SIDES for t in tasks}
    assert all(record["wall_s"] > 0 for record in result["records"])
    assert "best fp32 GEMM" in capsys.readouterr().out


def test_memory_is_that_of_one_inference() -> None:
    assert 0 <= interaction.peak_growth_mb("ours", 1, 16) < 100

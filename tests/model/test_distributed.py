"""Two processes over gloo make the steps of one; alone nothing is summed, and no accelerate is asked."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.distributed import ProcessGroup, join
from tests.model import together
from tests.model.tiny import VOCABULARY, write_encoder

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **more}


def two_processes(*module: str) -> None:
    """Run a module in two processes, as a launcher does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-m", *module]
    children = [
        subprocess.Popen(command, cwd=ROOT, env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **shared))
        for rank in range(2)
    ]
    assert [child.wait(timeout=280) for child in children] == [0, 0]


@pytest.fixture(scope="module")
def still_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without dropout: its masks depend on a batch's shape."""
    folder = write_encoder(tmp_path_factory.mktemp("still"), VOCABULARY)
    config = json.loads((folder / "config.json").read_text())
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps({**config, **still}))
    return folder


def test_two_processes_make_the_steps_of_one(still_encoder: Path, tmp_path: Path) -> None:
    two_processes("tests.model.together", str(still_encoder), str(tmp_path))
    (tmp_path / "alone").mkdir()
    together.main(still_encoder, tmp_path / "alone")
    expected = load_file(tmp_path / "alone" / "0-of-1.safetensors")
    curves = json.loads((tmp_path / "alone" / "0-of-1.json").read_text())
    for rank in (0, 1):
        found = load_file(tmp_path / f"{rank}-of-2.safetensors")
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0)
        for one, other in zip(json.loads((tmp_path / f"{rank}-of-2.json").read_text()), curves, strict=True):
            assert one == pytest.approx(other, abs=1e-9)
    ours, theirs = (load_file(tmp_path / f"{rank}-of-2.safetensors") for rank in (0, 1))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert len(list((tmp_path / "resume").glob("step-*"))) == 1, "the first process alone saves"


def test_shares_are_all_rows_once() -> None:
    rows = list(range(7))
    shares = [ProcessGroup(CPU, rank, 3).share(rows) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == rows
    assert [ProcessGroup(CPU, rank, 3).share([5]) for rank in range(3)] == [[5], [], []]


def test_one_process_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)  # an import of it would raise
    alone = join(CPU)
    tensor, parameter = torch.tensor([1.5]), torch.nn.Parameter(torch.ones(2))
    alone.sum(tensor)
    alone.sum_gradients([parameter])
    assert (tensor.item(), parameter.grad, alone.from_first(lambda: 3), alone.first) == (1.5, None, 3, True)


def test_gradients_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    sums: list[int] = []

    def double(self: ProcessGroup, tensor: torch.Tensor) -> None:
        sums.append(tensor.numel())
        tensor *= 2

    monkeypatch.setattr(ProcessGroup, "sum", double)
    parameters = [
        torch.nn.Parameter(torch.zeros(n, dtype=kind)) for n, kind in ((2, torch.float32), (3, torch.float32))
    ]
    parameters += [torch.nn.Parameter(torch.zeros(9)), torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))]
    parameters += [torch.nn.Parameter(torch.zeros(4), requires_grad=False)]
    for number, parameter in enumerate(parameters[:3], start=1):
        parameter.grad = torch.full_like(parameter, number)
    ProcessGroup(CPU, 0, 2).sum_gradients(parameters)
    assert sums == [2, 3, 9, 2]
    assert [parameter.grad.tolist() for parameter in parameters[:4] if parameter.grad is not None] == [
        [2.0] * 2,
        [4.0] * 3,
        [6.0] * 9,
        [0.0] * 2,
    ]
    assert parameters[4].grad is None

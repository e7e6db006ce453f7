"""A training that resumes from a checkpoint ends in the same weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from synthetic import checkpoint
from synthetic.grounder_training import schedule


def _train(network: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        loss = (network(x)[:, 0] - x.prod(dim=1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    return network, torch.optim.AdamW(network.parameters(), lr=0.05)


def test_a_resumed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole, optimizer = _make()
    _train(whole, optimizer, 0, 30)
    first, optimizer = _make()
    _train(first, optimizer, 0, 11)
    checkpoint.save(tmp_path / "new" / "a.safetensors", {"net": first}, optimizer, {"step": "11"})
    resumed, optimizer = _make()
    assert checkpoint.restore(tmp_path / "new" / "a.safetensors", {"net": resumed}, optimizer) == {"step": "11"}
    _train(resumed, optimizer, 11, 30)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_nothing_is_restored_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    network, optimizer = _make()
    assert checkpoint.restore(tmp_path / "none.safetensors", {"net": network}, optimizer) == {}


def test_the_rate_rises_and_then_falls_to_0() -> None:
    rates = [schedule(step / 100) for step in range(101)]
    top = rates.index(max(rates))
    assert 0 < top <= 4
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)

"""A killed training resumes to the same numbers as an unbroken one."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from synthetic import grounder_training
from synthetic.grounder_training import fit, schedule

N_STEPS = 30


def _network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))


def _train(network: nn.Module, checkpoint: Path, until: int = N_STEPS) -> list[float]:
    def loss_at(step: int) -> Tensor:
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        return (network(x)[:, 0] - x.prod(dim=1)).square().mean()

    losses = []
    steps = fit(network, loss_at, n_steps=N_STEPS, rate=0.05, decay=1e-3, checkpoint=checkpoint)
    for result in steps:
        losses.append(result.loss)
        if result.step == until:
            steps.close()
            break
    return losses


def test_a_killed_training_ends_at_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _network()
    losses = _train(whole, tmp_path / "never.safetensors")
    monkeypatch.setattr(grounder_training, "SAVE_S", 0.0)
    checkpoint = tmp_path / "checkpoint.safetensors"
    _train(_network(), checkpoint, until=11)
    resumed = _network()
    assert _train(resumed, checkpoint) == losses[11:]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not (tmp_path / "never.safetensors").exists()


def test_the_loss_falls() -> None:
    losses = _train(_network(), Path("never-written.safetensors"))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_the_rate_rises_and_then_falls_to_nought() -> None:
    shares = [step / 100 for step in range(101)]
    rates = [schedule(share) for share in shares]
    top = rates.index(max(rates))
    assert 0 < top <= 4
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)

"""The training loop of the toy parts: batches depend on (seed, step) alone, a killed run goes on from its last save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cache.weights import load_safetensors, save_safetensors

SAVE_S = 30.0  # seconds of training that a killed run may lose
WARM_UP = 0.03  # part of the steps during which the learning rate rises
_MODEL, _STATE = "model.", "state."


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step taken: `step` counts from 1."""

    step: int
    n_steps: int
    loss: float


def fit(
    network: nn.Module, loss_at: Callable[[int], Tensor], *, n_steps: int, rate: float, decay: float, checkpoint: Path
) -> Iterator[StepResult]:
    """Train in place with AdamW under a cosine schedule, yielding every step; resumes from `checkpoint`.

    `loss_at(step)` draws its batch from the step's number, so that a resumed run equals an unbroken one.
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    first = _resume(network, optimiser, checkpoint)
    network.train()
    saved = time.monotonic()
    for step in range(first, n_steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * schedule(step / n_steps)
        loss = loss_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        if time.monotonic() - saved > SAVE_S:
            save(network, optimiser, step + 1, checkpoint)
            saved = time.monotonic()
        yield StepResult(step + 1, n_steps, float(loss.detach()))


def schedule(share: float) -> float:
    """Factor of the learning rate after a share of the steps: linear warm-up, then half a cosine down to 0."""
    if share < WARM_UP:
        return (share + 0.1 * WARM_UP) / (1.1 * WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


def save(network: nn.Module, optimiser: torch.optim.Optimizer, step: int, checkpoint: Path) -> None:
    """Publish all that `fit` resumes from."""
    tensors = {_MODEL + name: value.detach().numpy() for name, value in network.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"{_STATE}{index}.{name}"] = value.detach().numpy()
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(checkpoint, tensors, {"step": str(step)})


def _resume(network: nn.Module, optimiser: torch.optim.Optimizer, checkpoint: Path) -> int:
    if not checkpoint.is_file():
        return 0
    tensors, metadata = load_safetensors(checkpoint)
    own = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    network.load_state_dict({n.removeprefix(_MODEL): value for n, value in own.items() if n.startswith(_MODEL)})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in own.items():
        if name.startswith(_STATE):
            index, field = name.removeprefix(_STATE).split(".", 1)
            state.setdefault(int(index), {})[field] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(metadata["step"])

"""The state from which an interrupted training resumes: modules and optimizer in one safetensors file."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cache.weights import load_safetensors, save_safetensors

Modules = Mapping[str, nn.Module]


def save(path: Path, modules: Modules, optimizer: torch.optim.Optimizer, progress: Mapping[str, str]) -> None:
    """Publish the state of modules and optimizer, with `progress` as the file's metadata."""
    tensors: dict[str, Tensor] = {}
    states = {f"optimizer/{index}": values for index, values in optimizer.state_dict()["state"].items()}
    for owner, state in ({name: module.state_dict() for name, module in modules.items()} | states).items():
        tensors |= {f"{owner}/{name}": value for name, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(path, {name: value.detach().numpy() for name, value in tensors.items()}, progress)


def restore(path: Path, modules: Modules, optimizer: torch.optim.Optimizer) -> dict[str, str]:
    """Load what `save` wrote; returns its `progress`, which is empty if there is no such file."""
    if not path.is_file():
        return {}
    arrays, progress = load_safetensors(path)
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    states: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        owner, _, name = key.rpartition("/")
        states[owner][name] = tensor
    for owner, module in modules.items():
        module.load_state_dict(states.pop(owner))
    moments = {int(owner.removeprefix("optimizer/")): state for owner, state in states.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return progress

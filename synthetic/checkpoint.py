"""What an interrupted training of a part resumes from: modules and optimizer in one safetensors file."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cache.weights import load_safetensors, save_safetensors

Modules = Mapping[str, nn.Module]


def save(path: Path, modules: Modules, optimizer: torch.optim.Optimizer, progress: Mapping[str, str]) -> None:
    """Publish the state of modules and optimizer, with `progress` as the file's metadata."""
    tensors = {
        f"{owner}/{name}": value for owner, module in modules.items() for name, value in module.state_dict().items()
    }
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(path, {name: value.detach().numpy() for name, value in tensors.items()}, progress)


def restore(path: Path, modules: Modules, optimizer: torch.optim.Optimizer) -> dict[str, str]:
    """Load what `save` wrote; returns its `progress`, which is empty where there is no such file."""
    if not path.is_file():
        return {}
    arrays, progress = load_safetensors(path)
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    for owner, module in modules.items():
        prefix = f"{owner}/"
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    moments: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            moments[int(index)][name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return progress

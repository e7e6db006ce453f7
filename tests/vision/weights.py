"""Weights files in the real formats, made from numpy's generator: the same numbers with any version of torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torchvision.models
from torch import Tensor

from cache.weights import save_safetensors
from vision.toy_resnet import ToyResNet


def torchvision_state(name: str, seed: int = 0) -> dict[str, Tensor]:
    """A state dict of torchvision's layout whose features are of the order of 1."""
    with torch.device("meta"):
        shapes = getattr(torchvision.models, name)(weights=None).state_dict()
    return _filled(shapes, seed)


def save_toy(path: Path, seed: int = 0, dim: int = 8) -> Path:
    """A `toy-resnet` weights file that nobody trained."""
    kinds = ("ball", "tree")
    state = _filled(ToyResNet(len(kinds), dim).state_dict(), seed)
    save_safetensors(
        path, {key: value.numpy() for key, value in state.items()}, {"kinds": json.dumps(kinds), "dim": str(dim)}
    )
    return path


def _filled(shapes: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    return {key: torch.from_numpy(np.array(_values(rng, key, tuple(like.shape)))) for key, like in shapes.items()}


def _values(rng: np.random.Generator, key: str, shape: tuple[int, ...]) -> np.ndarray | np.int64:
    if key.endswith("num_batches_tracked"):
        return np.int64(1)
    if key.endswith("running_var"):
        return rng.uniform(0.5, 2, shape).astype(np.float32)
    if len(shape) == 1:
        low, high = (0.3, 0.6) if key.endswith("weight") else (-0.02, 0.02)
        return rng.uniform(low, high, shape).astype(np.float32)
    fan = np.prod(shape[1:])
    return (rng.standard_normal(shape, np.float32) * np.sqrt(2 / fan)).astype(np.float32)

"""Weights files in the real formats, made from numpy's generator: the same numbers with any version of torch."""

from __future__ import annotations

import numpy as np
import torch
import torchvision.models
from torch import Tensor


def torchvision_state(name: str, seed: int = 0) -> dict[str, Tensor]:
    """A state dict of torchvision's layout whose features are of the order of 1."""
    with torch.device("meta"):
        shapes = getattr(torchvision.models, name)(weights=None).state_dict()
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

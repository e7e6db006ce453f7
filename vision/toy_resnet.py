"""A small residual network for crops of drawn things: `toy-resnet`.

Shapes: N crops, S pixels a side, D width of the features.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cache.weights import load_safetensors
from schema.errors import WeightsError

CROP_PX = 48  # side that crops are resized to, ours
GRID_PX = 112  # side of a whole image whose last map has the 7 x 7 cells of a ResNet at 224 pixels
MEAN = (0.5, 0.5, 0.5)  # of pixel values in 0..1, ours: drawings have no ImageNet statistics
STD = (0.25, 0.25, 0.25)
WIDTHS = (24, 32, 64)  # channels at 1/2, 1/4 and 1/8 of the side; the last map has D channels at 1/16


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, 1x1 where the shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


class ToyResNet(nn.Module):
    """Tells the kind of a drawn thing from its crop; `features` is what FMIT reads, the head measures them."""

    def __init__(self, n_kinds: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTHS[0], 5, 2, 2, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU())
        channels = (*WIDTHS, dim)
        self.blocks = nn.Sequential(*(_Block(a, b, 2) for a, b in pairwise(channels)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(dim, n_kinds)

    def grid(self, x: Tensor) -> Tensor:
        """float32 [N, 3, S, S], standardised by MEAN and STD -> [N, D, S/16, S/16] before pooling."""
        return self.blocks(self.stem(x))

    def features(self, x: Tensor) -> Tensor:
        """float32 [N, 3, S, S] -> [N, D], after global average pooling."""
        return self.pool(self.grid(x)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, 3, S, S] -> logits [N, n_kinds]."""
        return self.head(self.features(x))


def load_toy_resnet(path: Path) -> tuple[ToyResNet, tuple[str, ...]]:
    """Network in evaluation mode and the kinds that its head tells, from a weights file of this project.

    Raises WeightsError when the file holds another network.
    """
    tensors, metadata = load_safetensors(path)
    if not {"kinds", "dim"} <= metadata.keys():
        raise WeightsError("no weights of toy-resnet", where=str(path), found=f"metadata {sorted(metadata)}")
    kinds = tuple(json.loads(metadata["kinds"]))
    network = ToyResNet(len(kinds), int(metadata["dim"]))
    try:
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()})
    except RuntimeError as error:
        raise WeightsError("weights of another network", where=str(path), found=str(error).splitlines()[1]) from None
    return network.eval(), kinds

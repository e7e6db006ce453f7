"""A region network that training moves: crops in, features out, gradients down to its first convolution.

N crops, C side of a crop in pixels, D floats of a feature.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
import torchvision.models
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import ResNet

from schema.errors import ConfigError
from vision import efficientnet
from vision.backbones import DIM, load_torchvision
from vision.crops import Transform
from vision.fused_resnet import last_maps

Maps = Callable[[nn.Module, Tensor], Tensor]  # network and standardised crops [N, 3, C, C] -> maps [N, D, R, R]


class CropNet(nn.Module):
    """What `vision.backbones.FeatureNet.forward` computes, as a module with gradients; `network` holds the parameters.

    Batch norm stays in evaluation mode, with the statistics of pretraining: a step has few crops, many of one image,
    so statistics of its own would be noise, would make a crop's feature depend on its neighbours (a run predicts posts
    in any grouping), and would be counted twice where checkpointing runs the forward pass again. Scales and shifts are
    trained.

    Crops pass in slices of `batch`. With `checkpointing` a slice keeps its pixels and its features alone, and is
    computed again in the backward pass: the memory of activations is one slice's, however many crops a step has.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, maps: Maps, transform: Transform, dim: int, batch: int, checkpointing: bool
    ) -> None:
        super().__init__()
        self.network, self._maps = network.eval(), maps
        self.transform, self.dim, self.batch, self.checkpointing = transform, dim, batch, checkpointing
        for name, values in (("mean", transform.mean), ("std", transform.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> CropNet:
        """As any module's, but the network itself never leaves evaluation mode: it has no dropout, and batch norm."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, crops: Tensor) -> Tensor:
        """uint8 [N, 3, C, C] -> float32 [N, D]: the means of the last convolution's maps."""
        again = self.checkpointing and torch.is_grad_enabled()
        parts = [self._again(part) if again else self._features(part) for part in crops.split(self.batch)]
        return torch.cat(parts)

    def _again(self, crops: Tensor) -> Tensor:
        # nothing in the network is random, so there is no generator to restore
        return cast(Tensor, checkpoint(self._features, crops, use_reentrant=False, preserve_rng_state=False))

    def _features(self, crops: Tensor) -> Tensor:
        pixels = crops.contiguous(memory_format=torch.channels_last)
        x = pixels.float().div_(255).sub_(self.mean).div_(self.std)
        return self._maps(self.network, x).float().mean((2, 3))


def build_crop_net(
    name: str, weights: Path | None, transform: Transform, dim: int, *, batch: int, checkpointing: bool
) -> CropNet:
    """The network called `name` (EfficientNet-Lite2, or one of torchvision's in DIM), without its classifier.

    `weights` None: the bare structure, for a run that brings its own. Raises WeightsError where the file is not of this
    network, ConfigError for an unknown name or another width than `dim`.
    """
    network, maps = _build(name, weights)
    found = {**DIM, efficientnet.NAME: efficientnet.DIM}[name]
    if found != dim:
        raise ConfigError(f"{name} makes features of another width", found=f"{found} instead of {dim} floats")
    return CropNet(network.requires_grad_(True), maps, transform, dim, batch, checkpointing)


def _build(name: str, weights: Path | None) -> tuple[nn.Module, Maps]:
    if name == efficientnet.NAME:
        network = efficientnet.load(weights) if weights else efficientnet.EfficientNetLite2()
        return network, lambda net, x: net(x)
    return _torchvision(name, weights)


def _torchvision(name: str, weights: Path | None) -> tuple[nn.Module, Maps]:
    if name not in DIM:
        raise ConfigError(
            f"no network {name!r} can be trained", todo=f"use one of {', '.join((efficientnet.NAME, *DIM))}"
        )
    if weights:
        network = load_torchvision(name, weights)
    else:
        network = getattr(torchvision.models, name)(weights=None)
        network.fc = nn.Identity()  # type: ignore[assignment]
    return network, lambda net, x: last_maps(cast(ResNet, net), x)

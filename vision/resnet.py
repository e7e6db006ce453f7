"""Torchvision's ResNets up to their last convolution, from weights files in its format, and their inference form.

Their type is Any: importing torchvision takes as long as importing torch. N crops, C side of a crop in pixels, D
channels of the last stage, R side of its map (7 for 224 pixels).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from schema.errors import WeightsError
from vision.conv_layer import FusedConv, can_fuse, fold
from vision.crops import IMAGENET_MEAN, IMAGENET_STD
from vision.torch_files import load_state, read_state

VERSION = "1"  # of everything between a crop and its feature; a test pins rows of it
MEAN, STD = IMAGENET_MEAN, IMAGENET_STD
PACKAGE = None  # no package brings their weights
CPU_BATCH = 16  # crops: beyond them a forward pass of ResNet-152 gains nothing
DIM = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048}  # floats a feature


def load(name: str, weights: Path) -> Any:
    """A torchvision ResNet in evaluation mode with a file's weights: exactly its keys, except the classifier's."""
    with torch.device("meta"):
        network = without_weights(name)
    state = {key: value for key, value in read_state(weights).items() if not key.startswith("fc.")}
    expected = network.state_dict().keys()
    missing = sorted(key for key in expected - state.keys() if not key.endswith("num_batches_tracked"))  # old files
    bad = {key for key, value in state.items() if value.is_complex() or value.layout != torch.strided}
    unknown = sorted(bad | (state.keys() - expected))
    if missing or unknown:
        raise WeightsError(
            f"not the weights of torchvision's {name}: {len(missing)} tensor(s) missing, {len(unknown)} unknown",
            where=str(weights),
            found=", ".join([f"no {key}" for key in missing[:2]] + unknown[:2]),
            todo="use a state dict of torchvision's own keys, without a prefix",
        )
    load_state(network, state, f"torchvision's {name}", weights)
    return network


def without_weights(name: str) -> Any:
    """The bare structure, without its classifier."""
    import torchvision.models

    network = getattr(torchvision.models, name)(weights=None)
    network.fc = nn.Identity()
    return network


def last_maps(network: Any, x: Tensor) -> Tensor:
    """Standardized crops [N, 3, C, C] -> the last convolution's maps [N, D, R, R]."""
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    return network.layer4(network.layer3(network.layer2(network.layer1(x))))


def fold_batch_norm(network: Any) -> Any:
    """The same function with every batch norm folded into the convolution before it; changes and returns `network`."""
    network.conv1, network.bn1 = fold(network.conv1, network.bn1), nn.Identity()
    for block in _blocks(network):
        for number, conv in enumerate(_convolutions(block), 1):
            setattr(block, f"conv{number}", fold(conv, getattr(block, f"bn{number}")))
            setattr(block, f"bn{number}", nn.Identity())
        if block.downsample is not None:
            block.downsample = nn.Sequential(fold(*block.downsample), nn.Identity())
    return network


class FusedMaps:
    """`last_maps` of a folded network on a CPU with oneDNN: same numbers to rounding, up to twice as fast."""

    def __init__(self, network: Any) -> None:
        self._maxpool, self._stem = network.maxpool, FusedConv(network.conv1)
        self._blocks = [
            (
                [FusedConv(conv) for conv in _convolutions(block)],
                FusedConv(block.downsample[0]) if block.downsample else None,
            )
            for block in _blocks(network)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """As `last_maps`; fastest for `x` in channels-last memory."""
        x = self._maxpool(self._stem(x, "relu"))
        for convolutions, downsample in self._blocks:
            inner = x
            for conv in convolutions[:-1]:
                inner = conv(inner, "relu")
            x = convolutions[-1].add_relu(inner, downsample(x) if downsample else x)
        return x


def inference_maps(network: Any, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """`last_maps` in its fastest form that computes the same numbers to rounding; changes `network`."""
    folded = fold_batch_norm(network).to(device=device, dtype=dtype, memory_format=torch.channels_last)
    return FusedMaps(folded) if can_fuse(device, dtype) else lambda x: last_maps(folded, x)


def _blocks(network: Any) -> list[Any]:
    return [block for layer in (network.layer1, network.layer2, network.layer3, network.layer4) for block in layer]


def _convolutions(block: Any) -> list[nn.Conv2d]:
    return [getattr(block, name) for name in ("conv1", "conv2", "conv3") if hasattr(block, name)]

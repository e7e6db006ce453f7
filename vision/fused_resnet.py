"""Inference forms of torchvision's ResNets: batch norm folded into the convolutions; on CPUs with oneDNN, convolution,
addition and ReLU in one pass over channels-last data, with prepacked weights.

N crops, D channels of the last stage, R side of its map (7 for 224 pixels).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from vision.conv_layer import can_fuse, fold


def fold_batch_norm(network: ResNet) -> ResNet:
    """The same function with every batch norm folded into the convolution before it; changes `network` and answers it.

    Folded in float64: for fp32 weights the difference stays at rounding.
    """
    network.conv1, network.bn1 = fold(network.conv1, network.bn1), nn.Identity()
    for block in _blocks(network):
        for number in range(1, 4 if isinstance(block, Bottleneck) else 3):
            conv, norm = getattr(block, f"conv{number}"), getattr(block, f"bn{number}")
            setattr(block, f"conv{number}", fold(conv, norm))
            setattr(block, f"bn{number}", nn.Identity())
        if block.downsample is not None:
            block.downsample = nn.Sequential(fold(*block.downsample), nn.Identity())
    return network


def last_maps(network: ResNet, x: Tensor) -> Tensor:
    """Standardised crops [N, 3, C, C] -> the last convolution's maps [N, D, R, R], layer by layer."""
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    return network.layer4(network.layer3(network.layer2(network.layer1(x))))


class FusedMaps:
    """`last_maps` of a folded float32 network on a CPU with oneDNN: same numbers to rounding, up to twice as fast.

    Weights are packed at the first batch of each shape, so keep to one shape.
    """

    def __init__(self, network: ResNet) -> None:
        self._network = network
        self._packed: dict[tuple[nn.Conv2d, torch.Size], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """As `last_maps`; `x` best comes in channels-last memory."""
        x = self._network.maxpool(self._convolve(self._network.conv1, x, "relu"))
        for block in _blocks(self._network):
            first, *rest = _convolutions(block)
            inner = self._convolve(first, x, "relu")
            for conv in rest[:-1]:
                inner = self._convolve(conv, inner, "relu")
            shortcut = x if block.downsample is None else self._convolve(block.downsample[0], x, "none")
            x = self._add_relu(rest[-1], inner, shortcut)
        return x

    def _convolve(self, conv: nn.Conv2d, x: Tensor, then: str) -> Tensor:
        weight = self._weight(conv, x)
        shape = (conv.padding, conv.stride, conv.dilation, conv.groups)
        return torch.ops.mkldnn._convolution_pointwise(x, weight, conv.bias, *shape, then, [], "")

    def _add_relu(self, conv: nn.Conv2d, x: Tensor, shortcut: Tensor) -> Tensor:
        """relu(conv(x) + shortcut), written over `shortcut`, which nobody reads afterwards."""
        weight = self._weight(conv, x)
        shape = (conv.padding, conv.stride, conv.dilation, conv.groups)
        operator = torch.ops.mkldnn._convolution_pointwise_.binary
        return operator(shortcut, x, weight, conv.bias, *shape, "add", 1.0, "relu", [], None)

    def _weight(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        key = (conv, x.shape)
        if key not in self._packed:
            shape = (conv.padding, conv.stride, conv.dilation, conv.groups, list(x.shape))
            self._packed[key] = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *shape)
        return self._packed[key]


def fastest(network: ResNet, *, fuse: bool) -> Callable[[Tensor], Tensor]:
    """`last_maps` of a folded network by the fastest way that gives its numbers to rounding."""
    if fuse and can_fuse():
        return FusedMaps(network)
    return lambda x: last_maps(network, x)


def _blocks(network: ResNet) -> list[BasicBlock | Bottleneck]:
    return [block for layer in (network.layer1, network.layer2, network.layer3, network.layer4) for block in layer]


def _convolutions(block: BasicBlock | Bottleneck) -> list[nn.Conv2d]:
    names = ("conv1", "conv2", "conv3") if isinstance(block, Bottleneck) else ("conv1", "conv2")
    return [getattr(block, name) for name in names]

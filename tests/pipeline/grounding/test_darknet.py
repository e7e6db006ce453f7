"""Darknet's shapes at the published size, and its numbers of layers against the published list."""

import torch
from torch import nn

from pipeline.grounding.onestage.network import BLOCKS, Darknet, Sizes, layers
from tests.pipeline.grounding.released import CONV, HAND_ON, structure

STAGES = tuple(zip((64, 128, 256, 512, 1024), BLOCKS, strict=True))
FULL = Sizes(256, 32, 1, STAGES, 512, (((30.0, 30.0),) * 3,) * 3)


def test_the_published_size() -> None:
    with torch.device("meta"):
        network = Darknet(FULL)
        maps = network(torch.empty(2, 3, 256, 256))
    assert [tuple(one.shape) for one in maps] == [(2, 512, 32, 32), (2, 512, 16, 16), (2, 512, 8, 8)]
    eye = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d) and "mapped" not in name]
    assert len([name for name in eye if name.startswith(("stem", "stages"))]) == 52  # Darknet-53 without its classifier
    assert len(eye) == len(list(layers())) == 52 + 3 * 4 + 2 * 2


def test_every_convolution_has_its_published_number_and_shape() -> None:
    with torch.device("meta"):
        network = Darknet(FULL)
    listed, numbers = structure(), dict(layers())
    assert len(set(numbers.values())) == len(numbers)
    for name, number in numbers.items():
        kind, filters, kernel, stride = listed[number]
        convolution = network.get_submodule(f"{name}.0")
        assert kind in (CONV, HAND_ON)
        assert (convolution.out_channels, convolution.kernel_size[0], convolution.stride[0]) == (
            filters,
            kernel,
            stride,
        )
        slope = network.get_submodule(f"{name}.2").negative_slope
        assert slope == 0.1
    assert [numbers[f"necks.{scale}.3"] + 1 for scale in range(3)] == [
        at for at, layer in enumerate(listed) if layer[0] == HAND_ON
    ]
    assert [network.mapped[scale][2].negative_slope for scale in range(3)] == [0.0] * 3

"""The trainable network: the frozen one's numbers, gradients to the first convolution, and statistics that stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from schema.errors import ConfigError
from tests.vision.weights import torchvision_state
from vision import efficientnet
from vision.backbones import CropNet, FeatureNet, build_crop_net, open_backbone
from vision.crops import Transform

NETS = {"efficientnet-lite2": 1280, "resnet18": 512}  # floats a feature
SIDE_PX = 48  # a network of convolutions takes any size


def file_of(name: str, folder: Path) -> Path:
    if name == "efficientnet-lite2":
        return efficientnet.package_file()
    torch.save(torchvision_state(name), folder / "net.pth")
    return folder / "net.pth"


def both(name: str, folder: Path, batch: int = 2, checkpointing: bool = True) -> tuple[FeatureNet, CropNet]:
    """The frozen network of the regions stage, and the trainable one of the same file."""
    path = file_of(name, folder)
    frozen = open_backbone(name, path, crop_px=SIDE_PX, resize_px=SIDE_PX)
    return frozen, build_crop_net(name, path, frozen.transform, NETS[name], batch=batch, checkpointing=checkpointing)


def crops_of(net: FeatureNet, n: int = 5) -> Tensor:
    side = net.transform.crop_px
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def first_convolution(net: CropNet) -> nn.Conv2d:
    return next(module for module in net.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("name", NETS)
def test_its_numbers_are_those_of_the_regions_stage(name: str, tmp_path: Path) -> None:
    frozen, net = both(name, tmp_path)
    crops = crops_of(frozen)
    with torch.no_grad():
        torch.testing.assert_close(net.train()(crops), frozen.forward(crops), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_gradients_reach_the_first_convolution(name: str, tmp_path: Path) -> None:
    frozen, net = both(name, tmp_path)
    crops, weight = crops_of(frozen), first_convolution(net).weight
    scale = torch.randn(NETS[name], generator=torch.Generator().manual_seed(2))
    (net(crops) * scale).sum().backward()
    assert weight.grad is not None
    step = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    slope = (weight.grad * step).sum().item()
    net.double()
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            weight.data += sign * 1e-5 * step.double()
            ends.append(
                (net._maps(net.network, ((crops / 255.0).double() - net.mean) / net.std).mean((2, 3)) * scale).sum()
            )
            weight.data -= sign * 1e-5 * step.double()
    assert slope == pytest.approx(((ends[0] - ends[1]) / 2e-5).item(), rel=1e-2)
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_checkpointing_keeps_pixels_alone_and_changes_no_gradient(tmp_path: Path) -> None:
    gradients, kept = [], []
    for checkpointing in (True, False):
        frozen, net = both("resnet18", tmp_path, checkpointing=checkpointing)
        saved: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda one, to=saved: to.append(one) or one, lambda one: one):
            found = net(crops_of(frozen))
        kept.append(sum(one.numel() * one.element_size() for one in saved if not isinstance(one, nn.Parameter)))
        found.square().sum().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
    assert kept[0] < 0.02 * kept[1]


def test_a_crop_does_not_see_its_neighbours_and_statistics_stay(tmp_path: Path) -> None:
    frozen, net = both("resnet18", tmp_path, batch=4)
    before = {name: value.clone() for name, value in net.named_buffers()}
    crops = crops_of(frozen, 4)
    net.train()
    assert net.training
    assert not any(module.training for module in net.network.modules())
    alone = net(crops[:1])
    torch.testing.assert_close(net(crops)[:1], alone, rtol=1e-5, atol=1e-6)
    alone.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())


@pytest.mark.parametrize("name", NETS)
def test_a_run_brings_weights_to_the_bare_structure(name: str, tmp_path: Path) -> None:
    frozen, net = both(name, tmp_path)
    bare = build_crop_net(name, None, net.transform, NETS[name], batch=9, checkpointing=False)
    bare.load_state_dict(net.state_dict())
    crops = crops_of(frozen, 3)
    with torch.no_grad():
        torch.testing.assert_close(bare(crops), net(crops), rtol=1e-5, atol=1e-6)
    assert not any("fc" in key for key in net.state_dict()), "no classifier"


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    transform = Transform(8, 8)
    with pytest.raises(ConfigError, match="no network 'vgg' can be trained; use one of efficientnet-lite2"):
        build_crop_net("vgg", None, transform, 8, batch=1, checkpointing=True)
    with pytest.raises(
        ConfigError, match=r"resnet18 has features of a different width \(found 512 instead of 8 floats\)"
    ):
        build_crop_net("resnet18", None, transform, 8, batch=1, checkpointing=True)

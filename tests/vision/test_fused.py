"""Folded and fused networks against torchvision's own, layer by layer."""

import copy

import pytest
import torch
import torchvision.models
from torch import nn

import kernels
from vision.conv_layer import can_fuse
from vision.resnet import FusedMaps, fold_batch_norm, inference_maps, last_maps

CPU = torch.device("cpu")


def calibrated(name, seed=0):
    """A torchvision network whose batch norms do something, with features near 1."""
    torch.manual_seed(seed)
    network = getattr(torchvision.models, name)(weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.2, 0.6)
            module.bias.data.normal_(0, 0.2)
    network.layer1[0].bn1.running_var.fill_(1e-4)  # ten times eps: leaving that out would show
    network.layer1[0].bn1.weight.data.mul_(0.01)
    return network


def expected(network, x):
    with torch.inference_mode():
        return nn.Sequential(*list(network.children())[:-2])(x)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_folded_network_gives_the_same_maps(name):
    network, x = calibrated(name), torch.randn(2, 3, 96, 80)
    wanted = expected(network, x)
    folded = fold_batch_norm(copy.deepcopy(network))
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.inference_mode():
        found = last_maps(folded, x)
    assert wanted.abs().max() > 0.1
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not can_fuse(CPU, torch.float32), reason="this torch has no oneDNN convolutions")
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_fused_maps(name):
    network, x = calibrated(name), torch.randn(2, 3, 96, 80)
    wanted = expected(network, x)
    maps = FusedMaps(fold_batch_norm(network))
    before = x.clone()
    with torch.inference_mode():
        for batch in (x, x.contiguous(memory_format=torch.channels_last), x):
            assert torch.allclose(maps(batch), wanted, rtol=1e-5, atol=1e-5)
        assert torch.allclose(maps(x[:1]), wanted[:1], rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)


def test_without_the_operators_layer_by_layer(monkeypatch):
    network = calibrated("resnet18")
    forms = [inference_maps(copy.deepcopy(network), CPU, dtype) for dtype in (torch.float32, torch.float16)]
    assert [isinstance(form, FusedMaps) for form in forms] == [can_fuse(CPU, torch.float32), False]
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    maps = inference_maps(copy.deepcopy(network), CPU, torch.float32)
    x = torch.randn(1, 3, 64, 64)
    assert torch.allclose(maps(x), last_maps(fold_batch_norm(network), x), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not kernels.has_bf16(), reason="this processor has no bfloat16")
def test_fused_bfloat16_is_near_float32():
    network, x = calibrated("resnet18"), torch.randn(2, 3, 96, 80)
    plain, fused = (inference_maps(copy.deepcopy(network), CPU, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert isinstance(fused, FusedMaps)
    with torch.inference_mode():
        wanted = plain(x)
        difference = fused(x.to(torch.bfloat16)).float() - wanted
    assert 0 < difference.norm() < 0.03 * wanted.norm()


def test_bfloat16_is_not_fused_on_a_processor_without_it(monkeypatch):
    monkeypatch.setattr(kernels, "has_bf16", lambda: False)
    assert not can_fuse(CPU, torch.bfloat16)

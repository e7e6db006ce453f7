"""The synthetic's features are what its head reads, and its file says which kinds it tells."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cache.weights import EMBEDDED, save_safetensors
from schema.errors import WeightsError
from vision.toy_resnet import CROP_PX, MEAN, STD, ToyResNet, load_toy_resnet

WEIGHTS = EMBEDDED / "toy-resnet.safetensors"


def test_features_are_the_mean_of_the_grid_and_feed_the_head() -> None:
    torch.manual_seed(0)
    network = ToyResNet(5, 12).eval()
    x = torch.randn(3, 3, CROP_PX, CROP_PX)
    grid = network.grid(x)
    assert grid.shape == (3, 12, CROP_PX // 16, CROP_PX // 16)
    assert torch.allclose(network.features(x), grid.mean(dim=(2, 3)), atol=1e-6)
    assert torch.allclose(network(x), F.linear(network.features(x), network.head.weight, network.head.bias), atol=1e-6)
    assert len(MEAN) == len(STD) == 3


def test_a_block_adds_its_shortcut() -> None:
    torch.manual_seed(0)
    block = ToyResNet(5, 12).eval().blocks[0]
    x = torch.randn(1, 24, 8, 8)
    assert torch.allclose(block(x), F.relu(block.body(x) + block.shortcut(x)))


def test_the_embedded_file_is_small_and_tells_at_least_twelve_kinds() -> None:
    network, kinds = load_toy_resnet(WEIGHTS)
    assert WEIGHTS.stat().st_size <= 6e6
    assert len(set(kinds)) == len(kinds) == network.head.out_features >= 12
    assert not network.training
    assert network.dim == network.features(torch.zeros(1, 3, CROP_PX, CROP_PX)).shape[1] == 128


def test_other_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_safetensors(path, {"fc.weight": np.zeros((2, 2), np.float32)}, {})
    with pytest.raises(WeightsError, match=r"other\.safetensors: no weights of toy-resnet \(found metadata \[\]\)"):
        load_toy_resnet(path)
    save_safetensors(path, {"fc.weight": np.zeros((2, 2), np.float32)}, {"kinds": '["a"]', "dim": "4"})
    with pytest.raises(WeightsError, match=r"weights of another network \(found .*Missing key"):
        load_toy_resnet(path)

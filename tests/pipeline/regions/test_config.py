"""Parameters of the regions stage are checked, read, and lead to the network they name."""

import re
from pathlib import Path

import pytest
import torch

from cache.keys import digest_file
from pipeline.regions.config import PRESETS, RegionsConfig, open_net
from schema.errors import ConfigError, WeightsError
from tests.vision.weights import torchvision_state
from vision import resnet
from vision.crops import Transform

ROOT = Path(__file__).parents[3]


def test_every_field_is_read():
    files = [*(ROOT / "pipeline" / "regions").glob("*.py"), ROOT / "pipeline" / "ray_engine.py"]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    assert [name for name in RegionsConfig.model_fields if not re.search(rf"(config|self)\.{name}\b", source)] == []


def test_unknown_and_wrong_parameters():
    with pytest.raises(ConfigError, match=r"data\.d\.regions\.crop: unknown key, did you mean crop_px\?"):
        RegionsConfig.from_section({"crop": 3}, "data.d.regions", PRESETS)
    with pytest.raises(ConfigError, match=r"data\.d\.regions\.net: Input should be 'efficientnet-lite2', 'resnet18'"):
        RegionsConfig.from_section({"net": "vgg"}, "data.d.regions", PRESETS)
    assert RegionsConfig.from_section({"preset": "paper", "crop_px": 192}, "x", PRESETS).net == "resnet152"


def test_torchvisions_names_are_files_with_their_variant():
    first = RegionsConfig(net="resnet152", weights="IMAGENET1K_V1")
    assert first == PRESETS["paper"]
    second = RegionsConfig.from_section({"preset": "paper", "weights": "IMAGENET1K_V2"}, "x", PRESETS)
    assert (second.weights, second.weights_variant) == ("resnet152-f82ba261.pth", "v2")
    with pytest.raises(ConfigError, match="unknown weights IMAGENET1K_V2 of resnet18; available: IMAGENET1K_V1"):
        RegionsConfig.from_section({"net": "resnet18", "weights": "IMAGENET1K_V2"}, "x", PRESETS)
    with pytest.raises(ConfigError, match=r"resnet152-f82ba261\.pth has weights v2: set weights_variant: v2"):
        RegionsConfig.from_section({"net": "resnet152", "weights": "resnet152-f82ba261.pth"}, "x", PRESETS)
    assert RegionsConfig(net="resnet50", weights="resnet50-of-mine.pth").weights_variant == "v1"


def test_batch_and_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (RegionsConfig().torch_device(), RegionsConfig().n_batch()) == ("cpu", 4)
    assert RegionsConfig(net="resnet50").n_batch() == 16
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (RegionsConfig().torch_device(), RegionsConfig().n_batch()) == ("cuda", 256)
    assert RegionsConfig(device="cuda:1").n_batch() == 256
    assert RegionsConfig(device="cpu", batch=3).n_batch() == 3


def test_the_network_that_is_named(tmp_path):
    net = open_net(RegionsConfig(crop_px=20, device="cpu"))
    assert (net.identity["name"], net.dim, net.transform.crop_px) == ("efficientnet-lite2", 1280, 20)
    torch.save(torchvision_state("resnet18"), tmp_path / "r.pth")
    settings = {"net": "resnet18", "weights": str(tmp_path / "r.pth"), "device": "cpu"}
    with pytest.raises(WeightsError, match=r"r\.pth: not the expected weights: sha256 \w+, expected 00"):
        open_net(RegionsConfig(**settings, digest="00"))
    digest = digest_file(tmp_path / "r.pth")
    net = open_net(RegionsConfig(**settings, digest=digest, resize_px=240, dtype="bfloat16"))
    assert (net.transform, net.identity["dtype"]) == (Transform(224, 240), "bfloat16")


def test_real_weights_must_be_given(tmp_path, monkeypatch):
    monkeypatch.setenv("FMIT_MODELS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"no weights 'resnet152' \(found nothing at resnet152, in .*"):
        open_net(RegionsConfig(net="resnet152"))
    with pytest.raises(WeightsError, match=r"no weights 'resnet152-394f9c45\.pth'"):
        open_net(PRESETS["paper"])


def test_the_catalog_lists_torchvisions_variants_in_order():
    from torchvision.models import get_model_weights

    for net in resnet.DIM:
        for one in get_model_weights(net):
            config = RegionsConfig.checked({"net": net, "weights": one.name}, "x")
            assert config.weights == one.url.rsplit("/", 1)[-1]

"""Features against torchvision's own model and transforms; weights files of every bad kind."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models
from torchvision.models import ResNet18_Weights, ResNet152_Weights

from schema.errors import ConfigError, WeightsError
from schema.records import Box
from tests.vision.bad_images import sample
from tests.vision.weights import torchvision_state
from vision import efficientnet, images, resnet
from vision.backbones import open_backbone
from vision.crops import Transform, crop_tensor

PHOTOS = Path("../shared/data/photos/images")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision_state("resnet18"), path)
    return path


@pytest.fixture(scope="module")
def net(weights):
    return open_backbone("resnet18", weights)


def by_torchvision(name, weights, preset, crops):
    """What a user of torchvision gets: its model with the classifier cut off, its preset, one crop after the other."""
    model = getattr(torchvision.models, name)()
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.fc = torch.nn.Identity()
    with torch.inference_mode():
        return torch.cat([model.eval()(preset(crop)[None]) for crop in crops])


def photos(n):
    if not PHOTOS.is_dir():
        pytest.skip("../shared/data/photos is not here")
    paths = sorted(PHOTOS.iterdir())[:n]
    return [images.load(PHOTOS, images.probe(PHOTOS, path.name)) for path in paths]


def whole_and_boxes(image):
    width, height = image.size
    return [None, Box(0, 0, width // 2, height), Box(width // 3, height // 4, width, height // 2), Box(7, 9, 8, 10)]


@pytest.mark.parametrize(
    ("name", "preset", "n"),
    [
        ("resnet18", ResNet18_Weights.IMAGENET1K_V1, 2),
        pytest.param("resnet152", ResNet152_Weights.IMAGENET1K_V1, 23, marks=pytest.mark.long),
    ],
)
def test_features_of_photographs_equal_torchvisions(name, preset, n, tmp_path):
    """Whole images and boxes, in batches here and one by one there."""
    path = tmp_path / f"{name}.pth"
    torch.save(torchvision_state(name), path)
    net = open_backbone(name, path)
    cut = [(image, box) for image in photos(n) for box in whole_and_boxes(image)]
    crops = torch.stack([crop_tensor(image, box, net.transform) for image, box in cut])
    found = torch.cat([net.forward(crops[start : start + 4]) for start in range(0, len(crops), 4)])
    parts = [image if box is None else image.crop(box.xyxy) for image, box in cut]
    wanted = by_torchvision(name, path, preset.transforms(), parts)
    assert found.shape == (4 * n, resnet.DIM[name])
    tolerance = 1e-4 * min(1.0, float(wanted.abs().max()))
    assert wanted.std(0).mean() > 10 * tolerance, "crops differ, or the test shows nothing"
    assert (found - wanted).abs().max() <= tolerance


def test_rows_do_not_depend_on_their_neighbours(net):
    """Any slot, any order, zeros beside: equal bits at one shape."""
    rng = torch.Generator().manual_seed(1)
    crops = torch.randint(0, 256, (8, 3, 224, 224), generator=rng, dtype=torch.uint8)
    rows = net.forward(crops)
    order = torch.randperm(8, generator=rng)
    assert torch.equal(net.forward(crops[order]), rows[order])
    padded = torch.zeros_like(crops)
    padded[5] = crops[2]
    assert torch.equal(net.forward(padded)[5], rows[2])


def test_grid_holds_the_cells_whose_mean_the_feature_is(net):
    crops = torch.stack([net.transform.pixels(sample()), net.transform.pixels(sample(24, 40))])
    grid, rows = net.grid(crops), net.forward(crops)
    assert grid.shape == (2, 49, 512)
    assert torch.allclose(grid.mean(1), rows, atol=1e-5)
    with torch.inference_mode():
        maps = net._last(crops)
    assert torch.equal(grid[1, 7 * 2 + 5], maps[1, :, 2, 5]), "row by row"


def test_safetensors_and_files_without_classifier_or_counters(weights, net, tmp_path):
    crops = net.transform.pixels(sample())[None]
    state = torchvision_state("resnet18")
    slim = {key: value for key, value in state.items() if not key.startswith("fc.") and "num_batches" not in key}
    safetensors.torch.save_file(slim, tmp_path / "a.safetensors")
    assert torch.equal(open_backbone("resnet18", tmp_path / "a.safetensors").forward(crops), net.forward(crops))


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_half_precision_is_near_and_says_so(weights, net, dtype, tolerance):
    half = open_backbone("resnet18", weights, dtype=dtype)
    crops = net.transform.pixels(sample())[None]
    found, wanted = half.forward(crops), net.forward(crops)
    assert found.dtype == torch.float32
    assert 0 < (found - wanted).abs().max() < tolerance * wanted.abs().max()
    assert half.identity == net.identity | {"dtype": dtype}


def test_identity_names_what_changes_numbers(weights, net, tmp_path):
    torch.save(torchvision_state("resnet18", seed=1), tmp_path / "other.pth")
    nets = [
        net,
        open_backbone("resnet18", tmp_path / "other.pth"),
        open_backbone("resnet18", weights, crop_px=192),
        open_backbone("resnet18", weights, resize_px=300),
    ]
    assert len({tuple(net.identity.items()) for net in nets}) == 4
    assert all(isinstance(value, str) for value in net.identity.values())
    assert str(weights.parent) not in str(net.identity), "no path"
    assert open_backbone("resnet18", weights).identity == net.identity
    assert (nets[2].transform, nets[3].transform) == (Transform(192, 256), Transform(224, 300))


def test_variants_are_torchvisions_presets(tmp_path):
    torch.save(torchvision_state("resnet50"), tmp_path / "a.pth")
    assert open_backbone("resnet50", tmp_path / "a.pth", variant="v2").transform == Transform(224, 232)
    with pytest.raises(ConfigError, match=r"no v2 weights of resnet18; set weights_variant: v1"):
        open_backbone("resnet18", tmp_path / "a.pth", variant="v2")


def test_unknown_network(weights):
    with pytest.raises(ConfigError, match=r"unknown network 'resnet19'; use one of efficientnet-lite2, resnet18, "):
        open_backbone("resnet19", weights)


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "other-network",
            r"not the weights of torchvision's resnet34: \d+ tensor\(s\) missing, 0 unknown \(found no layer",
        ),
        ("prefixed", r"218 tensor\(s\) missing, 218 unknown|tensor\(s\) missing.*module\.bn1"),
        ("shape", r"not the weights of torchvision's resnet34 \(found size mismatch for conv1\.weight"),
        (
            "pickle",
            r"pickle: rejected: .* more than tensors \(found .*GLOBAL .*print.*; download the publisher's file",
        ),
        ("sparse", r"0 tensor\(s\) missing, 1 unknown \(found conv1\.weight\)"),
        ("complex", r"0 tensor\(s\) missing, 1 unknown \(found conv1\.weight\)"),
        ("numbered", r"not a state dict of tensors \(found keys 0\)"),
        (
            "nested",
            r"not a state dict of tensors \(found keys epoch, state_dict\); save only the network's state_dict",
        ),
        ("list", r"not a state dict of tensors \(found list\)"),
        ("truncated", r"rejected: the file is damaged or contains more than tensors \(found .*central directory"),
        ("empty", r"rejected: the file is damaged or contains more than tensors \(found EOFError\)"),
        ("page", r"rejected: the file is damaged or contains more than tensors \(found a web page\)"),
        ("damaged.safetensors", r"not a safetensors file, or damaged \(found .*; download the file again"),
        ("absent", r"cannot be read: No such file"),
    ],
)
def test_weights_that_are_none(content, message, weights, tmp_path, capsys):
    path, state = tmp_path / content, torchvision_state("resnet18")
    if content == "other-network":
        torch.save(state, path)
    elif content == "prefixed":
        torch.save({f"module.{key}": value for key, value in torchvision_state("resnet34").items()}, path)
    elif content == "shape":
        torch.save(torchvision_state("resnet34") | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, path)
    elif content == "pickle":
        path.write_bytes(pickle.dumps({"conv1.weight": Evil()}, protocol=2))
    elif content in ("sparse", "complex"):
        bad = torchvision_state("resnet34")
        one = bad["conv1.weight"]
        torch.save(bad | {"conv1.weight": one.to_sparse() if content == "sparse" else torch.complex(one, one)}, path)
    elif content == "numbered":
        torch.save({0: torch.zeros(1)}, path)
    elif content == "nested":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif content == "list":
        torch.save([torch.zeros(1)], path)
    elif content == "truncated":
        path.write_bytes(weights.read_bytes()[:1_000_000])
    elif content != "absent":
        path.write_bytes({"empty": b"", "page": b"<html>404</html>"}.get(content, b"\x10\0\0\0\0\0\0\0{" + b"x" * 90))
    with pytest.raises(WeightsError, match=message):
        resnet.load("resnet34", path)
    assert "run" not in capsys.readouterr().out, "nothing of the file was executed"


def test_reference_rows(net):
    """Numbers of version 1. If this fails and it should, raise the VERSION that moved them and pin the new ones."""
    assert (net.identity["version"], net.identity["images"]) == ("1", "1")
    crop = net.transform.pixels(sample())[None]
    assert np.allclose(net.forward(crop)[0, :4], [0.020976, 0, 0.021723, 0.036134], rtol=1e-4, atol=2e-6)
    assert np.allclose(net.grid(crop)[0, -1, :4], [0.001288, 0, 0.021495, 0.010576], rtol=1e-4, atol=2e-6)
    small = open_backbone("efficientnet-lite2", efficientnet.package_file(), crop_px=64, resize_px=64)
    crop, some = small.transform.pixels(sample())[None], [0, 2, 10, 13, 21, 28]
    row = [0, 0.643992, 3.039883, 0.56678, 0.537972, 1.056197]
    cell = [0, 1.039274, 3.063788, 0.26006, 0.668729, 0.923961]
    assert np.allclose(small.forward(crop)[0, some], row, rtol=1e-3, atol=2e-6)
    assert np.allclose(small.grid(crop)[0, -1, some], cell, rtol=1e-3, atol=2e-6)

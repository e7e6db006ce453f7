"""Crops against torchvision's own presets."""

import resource

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.models import ResNet50_Weights, ResNet152_Weights

from schema.errors import DataError
from schema.records import Box
from tests.vision.bad_images import sample
from vision.crops import MAX_ASPECT, Transform, crop_tensor

V1, V2 = Transform(224, 256), Transform(224, 232)


def noise(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return PIL.Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (500, 375), (333, 500), (224, 224), (1, 1), (3, 40), (1024, 70)])
@pytest.mark.parametrize(
    ("transform", "preset"),
    [(V1, ResNet152_Weights.IMAGENET1K_V1.transforms()), (V2, ResNet50_Weights.IMAGENET1K_V2.transforms())],
)
def test_equal_to_torchvisions_preset(size, transform, preset):
    image = noise(*size)
    found = transform.standardise(crop_tensor(image, None, transform)[None])[0]
    assert torch.equal(found, preset(image))


@pytest.mark.parametrize("size", [(1, 40), (900, 20), (7, 300)])
def test_long_images_within_a_level_of_torchvision(size):
    assert max(size) > MAX_ASPECT * min(size)
    found = V1.standardise(crop_tensor(noise(*size), None, V1)[None])[0]
    expected = ResNet152_Weights.IMAGENET1K_V1.transforms()(noise(*size))
    level = 1 / 255 / min(V1.std)
    assert (found - expected).abs().max() <= level * 1.001
    assert (found - expected).abs().mean() < level / 3, "Pillow may choose another order of its two passes"


@pytest.mark.timeout(5)
def test_a_line_of_one_pixel_does_not_fill_the_memory():
    """Resized whole it would be 256 x 4,096,000 pixels: 3 GB."""
    image = noise(1, 16_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = crop_tensor(image, None, V1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert len(found[0, 112].unique()) == 1
    middle = np.asarray(image)[7999:8001, 0, 0]
    assert middle.min() - 1 <= found[0, 112, 0] <= middle.max() + 1


def test_a_box_is_cut_first():
    image, box = noise(120, 90), Box(10, 20, 70, 60)
    expected = V1.pixels(PIL.Image.fromarray(np.asarray(image)[20:60, 10:70]))
    assert torch.equal(crop_tensor(image, box, V1), expected)
    assert torch.equal(crop_tensor(image, Box(0, 0, 120, 90), V1), crop_tensor(image, None, V1))


def test_a_box_of_one_pixel():
    image = noise(9, 9)
    found = crop_tensor(image, Box(4, 5, 5, 6), V1)
    assert torch.equal(found, torch.tensor(np.asarray(image)[5, 4])[:, None, None].expand(3, 224, 224))


def test_a_box_of_another_image():
    with pytest.raises(DataError, match=r"a box \(0, 0, 41, 24\) outside its image of 40 x 24; run the ground stage"):
        crop_tensor(sample(40, 24), Box(0, 0, 41, 24), V1)


def test_standardise_keeps_the_memory_format_and_its_argument():
    pixels = torch.full((2, 3, 8, 8), 255, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    found = Transform(8, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)).standardise(pixels)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.unique().tolist() == [2.0]
    assert pixels.unique().tolist() == [255]


def test_identity_names_every_number():
    transforms = [
        V1,
        V2,
        Transform(200, 256),
        Transform(224, 224),
        Transform(224, 256, (0.5,) * 3),
        Transform(224, 256, std=(1,) * 3),
    ]
    assert len({transform.identity for transform in transforms}) == 6
    assert V1.identity == Transform(224, 256).identity


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(DataError, match=r"1 <= crop_px <= resize_px \(found 224, 200\)"):
        Transform(224, 200)

"""A dataset with images on disk, whose pack holds features of their boxes by ResNet-18 with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from cache.packs import Objects, PackMeta, write_pack
from cache.tables import write_posts
from schema.records import Box, Post, Region
from tests.model.tiny import LABELS, linked
from tests.vision.weights import torchvision_state
from vision import images
from vision.backbones import FeatureNet, open_backbone
from vision.crops import crop_tensor

WEIGHTS = "crops.pth"
DIM = 512  # floats a feature


def draw(folder: Path, name: str, seed: int) -> None:
    """Noise in which corners differ, so that every box has its own features."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(folder / name)


def feature(net: FeatureNet, folder: Path, post: Post, region: Region) -> np.ndarray:
    """What the regions stage computes, one crop at a time."""
    box = region.box
    image = images.load(folder, post.images[box.image_index]) if box else images.EMPTY
    return net.forward(crop_tensor(image, box, net.transform)[None])[0].numpy()


def attach_images(
    folder: Path, posts: list[Post], objects: dict[str, Objects]
) -> tuple[list[Post], list[list[Region]]]:
    """Each post with a image of its own, every third with its neighbour's, every seventh with none."""
    shown, regions = [], []
    for number, post in enumerate(posts):
        name = f"{posts[number - 1 if number % 3 == 2 else number].id}.png"
        if number % 7 == 6:
            shown.append(replace(post, images=()))
            regions.append([Region("image", "", None, None, 0.0)])
            continue
        draw(folder, name, seed=sum(name.encode()))
        image = images.probe(folder, name)
        shown.append(replace(post, images=(image,)))
        boxes = [Box(0, 0, 32, 24), Box(1, 2, 17, 20), Box(10, 0, 30, 24), Box(0, 4, 12, 16)]
        own = objects[post.id].regions
        regions.append([replace(one, box=boxes[at]) for at, one in enumerate(own)])
    return shown, regions


def write_with_images(folder: Path, n_train: int = 14, n_dev: int = 5) -> tuple[Path, Path, Path]:
    """posts.parquet, pack and the images folder; the weights lie in `folder/models`."""
    (folder / "models").mkdir(parents=True)
    torch.save(torchvision_state("resnet18"), folder / "models" / WEIGHTS)
    net = open_backbone("resnet18", folder / "models" / WEIGHTS, crop_px=16, resize_px=16)
    posts, packed = [], []
    for seed, (split, n_posts) in enumerate([("train", n_train), ("dev", n_dev)]):
        some, regions = attach_images(folder / "images", *linked(n_posts, seed, split))  # type: ignore[arg-type]
        for post, own in zip(some, regions, strict=True):
            rows = [feature(net, folder / "images", post, region) for region in own]
            packed.append((post.id, Objects(np.float32(rows), tuple(own))))
        posts += some
    write_posts(folder / "posts.parquet", posts, LABELS, {})
    settings = {"net": "resnet18", "weights": WEIGHTS}
    provenance = {"regions": {"config": settings, "identity": net.identity, "synthetic": False}}
    write_pack(folder / "pack", PackMeta(net.dim, "float32", 2, LABELS.general_words, provenance=provenance), packed)
    return folder / "posts.parquet", folder / "pack", folder / "images"


def first_convolution(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return state["crop_net.network.conv1.weight"]

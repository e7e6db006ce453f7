"""Crops instead of cached features (`train.vision.finetune`): which crops a batch needs, and the network over them.

A post's boxes come from the pack, its images from the images folder, checked by the digests in posts.parquet. So posts
and pack identify what training reads, as with cached features. N crops, C side of a crop in pixels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cache import weights
from cache.packs import PackMeta
from model.config import TrainConfig
from schema.errors import ConfigError, PackError, WeightsError
from schema.records import Box, Image, Post, Region
from vision import images
from vision.backbones import NETWORKS, CropNet, build_crop_net
from vision.crops import Transform, crop_tensor

EMBEDDED = "embedded"  # regions.weights: the file with the name of the network


class Crop(NamedTuple):
    """The part of an image that a feature is computed from; without an image: the empty image."""

    image: Image | None
    box: Box | None

    @property
    def key(self) -> tuple[str, tuple[int, int, int, int] | None]:
        """The image's digest and the box: equal for crops with equal pixels, of any posts."""
        return (self.image.digest if self.image else images.EMPTY_DIGEST), (self.box.xyxy if self.box else None)


def crop_of(post: Post, region: Region) -> Crop:
    """The crop of a region of a post."""
    return Crop(post.images[region.box.image_index], region.box) if region.box else Crop(None, None)


@dataclass(frozen=True)
class CropReader:
    """Reads crops from the images folder; DataLoader workers pickle it."""

    folder: Path
    transform: Transform

    def batch(self, rows: Sequence[Sequence[Crop | None]], width: int) -> tuple[Tensor, Tensor]:
        """The distinct crops of some posts, uint8 [N, 3, C, C], and the index of each object's crop, int64 [B, width].

        -1: no crop (None in `rows`, and padding). Raises ImageError if an image is not the one that ingest read.
        """
        index = torch.full((len(rows), width), -1, dtype=torch.int64)
        numbers: dict[object, int] = {}
        by_image: dict[str, list[Crop]] = {}
        for row, crops in enumerate(rows):
            for column, crop in enumerate(crops):
                if crop is None:
                    continue
                if crop.key not in numbers:
                    numbers[crop.key] = len(numbers)
                    by_image.setdefault(crop.key[0], []).append(crop)
                index[row, column] = numbers[crop.key]
        side = self.transform.crop_px
        pixels = torch.zeros(len(numbers), 3, side, side, dtype=torch.uint8)
        for crops in by_image.values():
            image = images.load(self.folder, crops[0].image) if crops[0].image else images.EMPTY
            for crop in crops:
                pixels[numbers[crop.key]] = crop_tensor(image, crop.box, self.transform)
        return pixels, index


def crop_network(config: TrainConfig, meta: PackMeta | None, *, trained: bool) -> CropNet | None:
    """The network that made the pack's features, if `config` reads crops; `trained`: without weights, which follow."""
    if not config.reads_crops or meta is None:
        return None
    regions = meta.provenance.get("regions", {})
    identity = regions.get("identity", {})
    if not {"name", "transform", "weights"} <= identity.keys():
        todo = "build the pack with the regions stage, or set train.vision.finetune: false"
        raise PackError("train.vision.finetune needs the pack's region network, which is missing", todo=todo)
    values, vision = json.loads(identity["transform"]), config.vision
    transform = Transform(values["crop_px"], values["resize_px"], tuple(values["mean"]), tuple(values["std"]))
    file = None if trained else _weights_file(config, identity, regions.get("config", {}))
    net = build_crop_net(
        identity["name"], file, transform, meta.dim, batch=vision.batch, checkpointing=vision.checkpointing
    )
    return net.requires_grad_(vision.lr > 0)


def _weights_file(config: TrainConfig, identity: dict[str, str], settings: dict[str, Any]) -> Path:
    """The pack's own weights, checked, unless the configuration names others of the same network."""
    if config.vision.weights:
        return weights.find(config.vision.weights)
    name = settings.get("weights", EMBEDDED)
    name = identity["name"] if name == EMBEDDED else name
    if name in NETWORKS and NETWORKS[name].PACKAGE:
        return NETWORKS[name].package_file()
    try:
        return weights.find(name, identity["weights"])
    except WeightsError as error:  # a pack names the file but not its folder
        todo = f"set train.vision.weights to the path of {name}, or put it into {weights.folder()}"
        what = "train.vision.finetune needs the weights that made the pack"
        raise WeightsError(what, where=error.where, found=f"{error.what}: {error.found}", todo=todo) from None


def crop_reader(net: CropNet | None, folder: Path | None) -> CropReader | None:
    """The reader of the crops for `net`, if there is one; ConfigError without a folder."""
    if net is None:
        return None
    if folder is None:
        raise ConfigError("this run needs the posts' images", found="no folder", todo="pass the images folder")
    return CropReader(folder, net.transform)

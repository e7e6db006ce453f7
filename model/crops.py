"""Image crops instead of cached features (`vision.finetune`): which crops a batch needs, and the network over them.

A post's boxes come from the pack, its images from the images folder, checked by the digests in posts.parquet. So posts
and pack identify what training reads, as with cached features. N crops, C side of a crop in pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cache import weights
from cache.packs import PackMeta
from model.config import TrainConfig
from schema.errors import ConfigError, PackError, WeightsError
from schema.records import Box, Image, Post, Region
from vision import efficientnet, images
from vision.crop_net import CropNet, build_crop_net
from vision.crops import Transform, crop_tensor

if TYPE_CHECKING:
    from model.tagger import Tagger


EMBEDDED = "embedded"  # regions.weights: the file called as the network


@dataclass(frozen=True)
class Crop:
    """What one feature is computed from: a part of an image; None: the empty image."""

    image: Image | None
    box: Box | None

    @property
    def key(self) -> tuple[str, tuple[int, int, int, int] | None]:
        """Equal for crops with equal pixels, of any posts."""
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

        -1: no crop (None in `rows`, and padding). Each image is decoded once. Raises ImageError if an image is not the
        one that ingest read, DataError if a box exceeds it.
        """
        index = torch.full((len(rows), width), -1, dtype=torch.int64)
        places: dict[object, int] = {}
        crops: list[Crop] = []
        for post, row in enumerate(rows):
            for at, crop in enumerate(row):
                if crop is not None:
                    if crop.key not in places:
                        places[crop.key] = len(crops)
                        crops.append(crop)
                    index[post, at] = places[crop.key]
        return self._pixels(crops), index

    def _pixels(self, crops: Sequence[Crop]) -> Tensor:
        side = self.transform.crop_px
        pixels = torch.zeros(len(crops), 3, side, side, dtype=torch.uint8)
        crop_images = {crop.key[0]: crop.image for crop in crops}
        for digest, image in crop_images.items():
            pixels_of_image = images.load(self.folder, image) if image else images.EMPTY
            for place, crop in enumerate(crops):
                if crop.key[0] == digest:
                    pixels[place] = crop_tensor(pixels_of_image, crop.box, self.transform)
        return pixels


def attach(tagger: Tagger, config: TrainConfig, meta: PackMeta | None, *, trained: bool) -> None:
    """Give a tagger that reads crops the network that made the pack's features; other taggers are unchanged.

    `trained`: without weights, since the run's weights follow. Raises PackError if the pack does not name its network,
    WeightsError if the weights are missing or have another digest.
    """
    if not config.reads_crops or meta is None:
        return
    part = meta.provenance.get("regions", {})
    identity, settings = part.get("identity", {}), part.get("config", {})
    if not {"name", "transform", "weights"} <= identity.keys():
        todo = "make the pack by the regions stage, or set vision.finetune: false"
        raise PackError("vision.finetune starts from the network that made the pack", found="no network", todo=todo)
    file = None if trained else _file(config, identity, settings)
    values = json.loads(identity["transform"])
    transform = Transform(values["crop_px"], values["resize_px"], tuple(values["mean"]), tuple(values["std"]))
    vision = config.vision
    net = build_crop_net(
        identity["name"], file, transform, meta.dim, batch=vision.batch, checkpointing=vision.checkpointing
    )
    tagger.crop_net = net.requires_grad_(vision.lr > 0)


def _file(config: TrainConfig, identity: dict[str, str], settings: dict[str, str]) -> Path:
    """The pack's own weights, checked, unless the configuration names others of the same network."""
    if config.vision.weights:
        return weights.find(config.vision.weights)
    name = settings.get("weights", EMBEDDED)
    name = identity["name"] if name == EMBEDDED else name
    if name == efficientnet.NAME:
        return efficientnet.package_file()
    try:
        return weights.find(name, identity["weights"])
    except WeightsError as error:  # a pack names the file but not its folder
        todo = f"set train.vision.weights to the path of {name}, or put it into {weights.folder()}"
        what = "vision.finetune starts from the weights that made the pack"
        raise WeightsError(what, where=error.where, found=f"{error.what}: {error.found}", todo=todo) from None


def reader_of(tagger: Tagger, folder: Path | None) -> CropReader | None:
    """The reader for a tagger that reads crops, None for others; ConfigError without a folder."""
    net: CropNet | None = tagger.crop_net
    if net is None:
        return None
    if folder is None:
        raise ConfigError("this run reads the posts' images", found="no folder", todo="pass the images folder")
    return CropReader(folder, net.transform)

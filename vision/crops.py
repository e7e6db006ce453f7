"""Boxes of an image, and crops as a network's input: torchvision's steps by Pillow, bounded for images of any shape.

C: side of the input in pixels.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from schema.errors import DataError
from schema.records import Box

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of pixel values in 0..1, torchvision's presets
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_ASPECT = 16  # beyond it the resized image is never made whole: 256 x 1,000,000 pixels for a line of one pixel


@dataclass(frozen=True, slots=True)
class Transform:
    """How a crop becomes an input: resize its short side to `resize_px`, cut the center of `crop_px`, standardize by
    `mean` and `std`. Bilinear with antialiasing.
    """

    crop_px: int
    resize_px: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not 1 <= self.crop_px <= (self.resize_px or 0):  # None: in packs of a network that is gone
            raise DataError("a transform needs 1 <= crop_px <= resize_px", found=f"{self.crop_px}, {self.resize_px}")

    @property
    def identity(self) -> str:
        """Names every number of it."""
        return json.dumps(asdict(self), sort_keys=True)

    def pixels(self, image: PIL.Image.Image) -> Tensor:
        """An RGB image -> uint8 [3, C, C], not yet standardized: a quarter of the bytes to carry around."""
        short, crop, bilinear = min(image.size), self.crop_px, PIL.Image.Resampling.BILINEAR
        size = width, height = [self.resize_px * side // short for side in image.size]
        left, top = round((width - crop) / 2), round((height - crop) / 2)
        if max(image.size) > MAX_ASPECT * short:  # to one level of rounding the same, without what the crop drops
            x, y = image.width / width, image.height / height
            box = (left * x, top * y, left * x + crop * x, top * y + crop * y)
            square = image.resize((crop, crop), bilinear, box)
        else:
            square = image.resize(size, bilinear).crop((left, top, left + crop, top + crop))
        return torch.from_numpy(np.array(square)).permute(2, 0, 1)

    def standardise(self, pixels: Tensor) -> Tensor:
        """uint8 [N, 3, C, C] -> float32 [N, 3, C, C], channels last."""
        return standardise(pixels.float().div_(255), self.mean, self.std)


def standardise(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x - mean) / std per channel, channels last; may write over `x`, float [N, 3, H, W]."""
    rows = x.permute(0, 2, 3, 1).flatten(2)  # [N, H, W * 3]: five times faster than loops over three channels
    shift, scale = (torch.tensor(values, device=x.device).repeat(x.shape[3]) for values in (mean, std))
    return rows.sub_(shift).div_(scale).unflatten(2, (-1, 3)).permute(0, 3, 1, 2)


def crop_tensor(image: PIL.Image.Image, box: Box | None, transform: Transform) -> Tensor:
    """The part of an RGB image in a box (None: all of it) as uint8 [3, C, C].

    Raises DataError where the box reaches over the image: it was made for another one.
    """
    if box is None or box.xyxy == (0, 0, *image.size):
        return transform.pixels(image)
    if box.x1 > image.width or box.y1 > image.height:
        what = f"a box {box.xyxy} outside its image of {image.width} x {image.height}"
        raise DataError(what, todo="run the ground stage again")
    return transform.pixels(image.crop(box.xyxy))


def bounded(image: PIL.Image.Image, side_px: int = 4000) -> PIL.Image.Image:
    """The image in RGB, made smaller where a side is longer than `side_px`."""
    scale = side_px / max(image.size)
    if scale >= 1:
        return image if image.mode == "RGB" else image.convert("RGB")
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.convert("RGB").resize((width, height), PIL.Image.Resampling.BOX)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two `x0, y0, x1, y1`; 0 where both are empty."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = sum(max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0) for box in (a, b)) - shared
    return shared / union if union > 0 else 0.0


def clip(xyxy: Sequence[float], width: int, height: int, image_index: int) -> tuple[Box, bool]:
    """The nearest whole pixels inside a `width x height` image, at least one by one, and whether the edge cut any.

    Rounded to the nearest pixel (halves up), so that float noise between devices seldom moves an edge. Raises
    DataError for a box that is not finite.
    """
    if not all(math.isfinite(value) for value in xyxy):
        raise DataError("a box must be finite", found=str(tuple(xyxy)), todo="check the grounder's weights")
    x0, x1, cut_x = _inside(xyxy[0], xyxy[2], width)
    y0, y1, cut_y = _inside(xyxy[1], xyxy[3], height)
    return Box(x0, y0, x1, y1, image_index), cut_x or cut_y


def _inside(low: float, high: float, size: int) -> tuple[int, int, bool]:
    start, end = math.floor(min(low, high) + 0.5), math.floor(max(low, high) + 0.5)
    kept_start = min(max(start, 0), size - 1)
    kept_end = min(max(end, kept_start + 1), size)
    return kept_start, kept_end, start < 0 or end > size

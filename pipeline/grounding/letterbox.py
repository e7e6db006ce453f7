"""Pictures of any shape in a square of fixed size, and boxes back again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import PIL.Image

MEAN, STD = 0.5, 0.25  # of pixel values in 0..1, ours: the same for all channels; the padding is MEAN, so 0 after it


class Boxed(NamedTuple):
    """float32 [3, size, size] standardised; a box of the picture times `scale` plus `offset` is the square's."""

    pixels: np.ndarray
    scale: float
    offset: tuple[float, float]


def letterbox(image: PIL.Image.Image, size_px: int) -> Boxed:
    """The picture scaled to fit and centred."""
    scale = size_px / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    x, y = (size_px - width) // 2, (size_px - height) // 2
    square = np.zeros((3, size_px, size_px), np.float32)
    small = image.convert("RGB").resize((width, height), PIL.Image.Resampling.BILINEAR)
    pixels = (np.asarray(small, np.float32) / 255.0 - MEAN) / STD
    square[:, y : y + height, x : x + width] = pixels.transpose(2, 0, 1)
    return Boxed(square, scale, (x, y))


def to_square(xyxy: np.ndarray, scale: float, offset: tuple[float, float]) -> np.ndarray:
    """Boxes [..., 4] of the picture in the square's pixels."""
    return xyxy * scale + np.array([*offset, *offset])


def to_picture(xyxy: np.ndarray, scale: float, offset: tuple[float, float]) -> np.ndarray:
    """Boxes [..., 4] of the square in the picture's pixels; inverse of `to_square`."""
    return (xyxy - np.array([*offset, *offset])) / scale

"""Pictures of any shape in a square of fixed size, and boxes back again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import PIL.Image

MEAN, STD = 0.5, 0.25  # of pixel values in 0..1, ours: the same for all channels; the padding is MEAN, so 0 after it
# The one-stage toolkit's: ImageNet's, and the padding that its letterbox draws, in 0..255.
PAPER_MEAN, PAPER_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PAPER_PADDING = (124, 116, 104)


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


def paper_letterbox(image: PIL.Image.Image, size_px: int) -> Boxed:
    """As the toolkit of Yang et al. (2019) does it: resized by area, centred on ImageNet's mean colour.

    Half a pixel of padding counts in the offset, as in the boxes that the network was trained on.
    """
    scale = size_px / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    x, y = (size_px - width) // 2, (size_px - height) // 2
    square = np.empty((size_px, size_px, 3), np.float32)
    square[:] = PAPER_PADDING
    square[y : y + height, x : x + width] = by_area(np.asarray(image.convert("RGB")), width, height)
    pixels = (square / 255.0 - np.array(PAPER_MEAN, np.float32)) / np.array(PAPER_STD, np.float32)
    offset = ((size_px - width) / 2, (size_px - height) / 2)
    return Boxed(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32), scale, offset)


def by_area(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 [rows, columns, 3] -> whole numbers 0..255 as float32 [height, width, 3].

    A new pixel is the mean of the old ones that it covers, each weighted by the covered share (OpenCV's INTER_AREA).
    """
    rows, columns, _ = pixels.shape
    fewer = _shares(rows, height) @ pixels.reshape(rows, columns * 3).astype(np.float32)
    return np.rint(_shares(columns, width) @ fewer.reshape(height, columns, 3))


def to_square(xyxy: np.ndarray, scale: float, offset: tuple[float, float]) -> np.ndarray:
    """Boxes [..., 4] of the picture in the square's pixels."""
    return xyxy * scale + np.array([*offset, *offset])


def to_picture(xyxy: np.ndarray, scale: float, offset: tuple[float, float]) -> np.ndarray:
    """Boxes [..., 4] of the square in the picture's pixels; inverse of `to_square`."""
    return (xyxy - np.array([*offset, *offset])) / scale


def _shares(n_old: int, n_new: int) -> np.ndarray:
    """float32 [n_new, n_old]: how much of each new pixel lies on each old one."""
    edges, old = np.arange(n_new + 1) * (n_old / n_new), np.arange(n_old)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return (np.maximum(overlap, 0) * (n_new / n_old)).astype(np.float32)

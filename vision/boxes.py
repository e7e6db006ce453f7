"""Boxes as plain geometry: overlap, and a detector's floats as whole pixels of an image."""

import math
from collections.abc import Sequence

from schema.errors import DataError
from schema.records import Box


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two `x0, y0, x1, y1`; 0 where both are empty."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = _area(a) + _area(b) - shared
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


def _area(box: Sequence[float]) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)

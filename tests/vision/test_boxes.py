"""Geometry against counted pixels."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.errors import DataError
from schema.records import Box
from vision.crops import clip, iou

SIDE = st.integers(0, 12)
RECTANGLE = st.tuples(SIDE, SIDE, SIDE, SIDE).map(
    lambda v: (min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3]))
)


def painted(box):
    grid = np.zeros((12, 12), bool)
    grid[box[1] : box[3], box[0] : box[2]] = True
    return grid


@given(RECTANGLE, RECTANGLE)
def test_iou_counts_pixels(a, b):
    union = (painted(a) | painted(b)).sum()
    expected = (painted(a) & painted(b)).sum() / union if union else 0
    assert iou(a, b) == pytest.approx(expected)
    assert iou(b, a) == iou(a, b)


@pytest.mark.parametrize(
    ("xyxy", "expected", "clamped"),
    [
        ((2.4, 3.5, 7.49, 8.5), (2, 4, 7, 9), False),
        ((0.0, 0.0, 20.0, 10.0), (0, 0, 20, 10), False),
        ((-0.4, -0.1, 20.4, 10.2), (0, 0, 20, 10), False),
        ((-3.0, 1.0, 5.0, 4.0), (0, 1, 5, 4), True),
        ((1.0, 1.0, 5.0, 14.0), (1, 1, 5, 10), True),
        ((4.0, 4.0, 4.0, 4.0), (4, 4, 5, 5), False),
        ((20.0, 10.0, 20.0, 10.0), (19, 9, 20, 10), False),
        ((30.0, 2.0, 40.0, 4.0), (19, 2, 20, 4), True),
        ((-9.0, -9.0, -5.0, -5.0), (0, 0, 1, 1), True),
        ((7.0, 8.0, 3.0, 2.0), (3, 2, 7, 8), False),
        ((-1e30, -1e30, 1e30, 1e30), (0, 0, 20, 10), True),
    ],
)
def test_clip(xyxy, expected, clamped):
    assert clip(xyxy, 20, 10, 3) == (Box(*expected, 3), clamped)


@given(st.tuples(*[st.floats(-1e6, 1e6)] * 4), st.integers(1, 50), st.integers(1, 50))
def test_clipped_boxes_lie_in_the_image(xyxy, width, height):
    box, clamped = clip(xyxy, width, height, 0)
    assert box.x1 <= width
    assert box.y1 <= height
    again, twice = clip(box.xyxy, width, height, 0)
    assert (again, twice) == (box, False)
    if not clamped and xyxy[0] + 1 <= xyxy[2] and xyxy[1] + 1 <= xyxy[3]:
        assert max(abs(a - b) for a, b in zip(box.xyxy, xyxy, strict=True)) <= 0.5 + 1e-9


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_box_must_be_finite(value):
    with pytest.raises(DataError, match=r"a box must be finite \(found .*\); check the grounder's weights"):
        clip((0.0, value, 1.0, 1.0), 9, 9, 0)

"""Boxes survive the way into the square and back; the image lies where the boxes say."""

import numpy as np
import pytest
from PIL import Image

from pipeline.grounding.onestage.grounder import by_area, letterbox, to_square


@pytest.mark.parametrize("size", [(160, 128), (128, 160), (40, 400), (64, 64)])
def test_a_painted_box_is_where_to_square_says(size: tuple[int, int]) -> None:
    width, height = size
    box = np.array([width // 4, height // 4, width // 4 + width // 2, height // 4 + height // 2])
    image = Image.new("RGB", size, (0, 0, 0))
    image.paste((255, 255, 255), tuple(int(v) for v in box))
    square, scale, offset = letterbox(image, 64)
    assert square.shape == (3, 64, 64)
    assert square.dtype == np.float32
    rows, columns = np.nonzero(square[0] > 0.5)
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(found - to_square(box, scale, offset)).max() <= 1.0


def test_values_are_standardised_and_the_padding_is_zero() -> None:
    square, scale, offset = letterbox(Image.new("RGB", (160, 128), (255, 0, 51)), 128)
    assert (scale, offset) == (0.8, (0, 13))
    assert np.allclose(square[:, 64, 64], [2.0, -2.0, -1.2])
    assert not square[:, :13].any()
    assert square[:, 13:115].all()
    assert not square[:, 115:].any()


def test_by_area_every_old_pixel_counts_by_the_share_that_is_covered() -> None:
    old = np.zeros((1, 3, 3), np.uint8)
    old[0, :, 0] = (30, 60, 90)
    assert by_area(old, 2, 1)[0, :, 0].tolist() == [40, 80]  # (30 + 60 / 2) / 1.5, (60 / 2 + 90) / 1.5
    assert by_area(old, 3, 1)[0, :, 0].tolist() == [30, 60, 90]
    assert by_area(old, 4, 1)[0, :, 0].tolist() == [30, 50, 70, 90]  # a quarter more: 3/4 old pixels each
    assert by_area(old, 1, 2)[:, 0, 0].tolist() == [60, 60]


def test_the_paper_s_letterbox_counts_half_a_pixel_of_padding() -> None:
    image = Image.new("RGB", (100, 31), (255, 0, 51))
    square, scale, offset = letterbox(image, 50, paper=True)
    assert (square.shape, square.dtype, scale, offset) == ((3, 50, 50), np.float32, 0.5, (0.0, 17.0))
    _, _, odd = letterbox(Image.new("RGB", (100, 30)), 50, paper=True)
    assert odd == (0.0, 17.5)
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    assert square[:, 25, 25] == pytest.approx((np.array((255, 0, 51)) / 255 - mean) / std, abs=1e-5)
    assert square[:, 0, 0] == pytest.approx((np.array((124, 116, 104)) / 255 - mean) / std, abs=1e-5)
    assert (np.abs(square[0] - square[0, 0, 0]) > 0.1).sum() == 50 * 16  # 15.5 rows, rounded to even

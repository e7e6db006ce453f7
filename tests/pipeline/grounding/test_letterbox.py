"""Boxes survive the way into the square and back; the picture lies where the boxes say."""

import numpy as np
import pytest
from PIL import Image

from pipeline.grounding.letterbox import letterbox, to_picture, to_square


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
    assert np.allclose(to_picture(to_square(box, scale, offset), scale, offset), box)


def test_values_are_standardised_and_the_padding_is_zero() -> None:
    square, scale, offset = letterbox(Image.new("RGB", (160, 128), (255, 0, 51)), 128)
    assert (scale, offset) == (0.8, (0, 13))
    assert np.allclose(square[:, 64, 64], [2.0, -2.0, -1.2])
    assert not square[:, :13].any()
    assert square[:, 13:115].all()
    assert not square[:, 115:].any()

"""A control that looks at nothing: uniform, the same everywhere, and different for every image and text."""

from collections import Counter

from PIL import Image

from pipeline.grounding.controls import RandomBox
from pipeline.grounding.grounder import ScoredBox, ground_images
from tests.pipeline.grounding.checkpoints import noise


def test_boxes_are_pinned() -> None:
    """For VERSION 1: where they move, the version must."""
    found = ground_images(RandomBox(), [Image.new("RGB", (300, 200), (9, 9, 9))], [["a dog", "a cat", "a dog"]])[0]
    assert found[0] == found[2]
    assert found == PINNED


def test_every_box_of_a_small_image_is_as_likely_as_any_other() -> None:
    image, n = Image.new("RGB", (3, 2)), 18_000
    found = ground_images(RandomBox(), [image], [[f"thing {i}" for i in range(n)]])[0]
    counts = Counter(one.xyxy for one in found)
    xs, ys = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], [(0, 1), (0, 2), (1, 2)]
    assert set(counts) == {(x0, y0, x1, y1) for x0, x1 in xs for y0, y1 in ys}
    expected = n / 18
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 40.8  # chi square, 17 degrees, 0.1 %


def test_pixels_and_text_alone_decide() -> None:
    one, same, other = noise(40, 30), noise(40, 30).convert("RGBA"), noise(40, 30, seed=1)
    texts = [f"thing {i}" for i in range(20)]
    found = ground_images(RandomBox(), [one, same, other], [texts, texts[::-1], texts])
    assert found[0] == found[1][::-1]
    assert found[0] != found[2]
    assert len({row.xyxy for row in found[0]}) > 15
    assert RandomBox().identity == {"name": "random", "version": "1"}
    assert (RandomBox.synthetic, RandomBox.merges, RandomBox().is_cut("a " * 999)) == (False, False, False)


def test_a_single_pixel() -> None:
    assert ground_images(RandomBox(), [Image.new("RGB", (1, 1))], [["a"]]) == [[ScoredBox((0.0, 0.0, 1.0, 1.0), 0.0)]]


A_DOG, A_CAT = ScoredBox((40.0, 107.0, 193.0, 112.0), 0.0), ScoredBox((86.0, 73.0, 106.0, 96.0), 0.0)
PINNED = [A_DOG, A_CAT, A_DOG]

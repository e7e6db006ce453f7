import base64
import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.pages import data_uri, shrunk, thumbnails
from report.show import scaled, with_boxes
from schema.records import Image
from tests.report.examples import FILLS, pil_image


def opened(uri):
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64"
    return PIL.Image.open(io.BytesIO(base64.b64decode(data)))


def noise(width, height):
    return PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_thumbnail_keeps_the_shape_and_the_budget():
    image = noise(800, 400)
    for budget in (200_000, 60_000, 20_000):
        uri = data_uri(image, budget)
        assert len(uri) <= budget
        assert opened(uri).width == 2 * opened(uri).height
    assert opened(data_uri(image, 10**6)).size == (560, 280)
    assert opened(data_uri(pil_image((90, 60), []), 10**6)).size == (90, 60)  # never enlarged
    assert data_uri(image, 500) is None


def test_a_thumbnail_has_no_metadata():
    file = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x010E] = "taken at home"
    noise(300, 200).save(file, "JPEG", exif=exif, comment=b"my name", icc_profile=b"profile of mine")
    image = PIL.Image.open(file)
    image.load()
    found = base64.b64decode(data_uri(image, 10**6).split(",")[1])
    for secret in (b"home", b"name", b"profile", b"Exif"):
        assert secret not in found


def test_scaled_boxes_fit_copies_of_any_size():
    boxes = [(40, 30, 120, 90), (200, 100, 320, 240)]
    for size in ((320, 240), (640, 480)):
        factor = size[0] // 320
        table = [tuple(factor * side for side in box) for box in boxes]
        pixels = np.asarray(shrunk(pil_image(size, table), 160)).astype(int)
        for at, box in enumerate(table):
            filled = np.abs(pixels - np.array(FILLS[at])).max(axis=2) < 60
            ys, xs = np.nonzero(filled)
            seen = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
            assert np.abs(np.array(seen) - scaled(box, size, (160, 120))).max() <= 1


def test_drawn_edges_are_those_of_the_scaled_box():
    image = PIL.Image.new("RGB", (200, 100), (255, 255, 255))
    copy = with_boxes(image, [((20, 10, 100, 60), (255, 0, 0))], 100)
    ys, xs = np.nonzero((np.asarray(copy) == (255, 0, 0)).all(axis=2))
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (10, 5, 50, 30)
    assert (np.asarray(image) == 255).all()  # the original is not drawn into


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_a_scaled_box_is_never_empty_or_outside(width, height, data):
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    drawn = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    a, b, c, d = scaled((x0, y0, x1, y1), (width, height), drawn)
    assert 0 <= a < c <= drawn[0]
    assert 0 <= b < d <= drawn[1]


def test_distinct_images_are_made_once_within_the_budget():
    loaded = []

    def load(name, digest):
        loaded.append(name)
        return noise(300, 300)

    images = [Image(f"{at}.jpg", f"digest-{at}") for at in range(12)]
    uris = thumbnails([*images, Image("other-name.jpg", "digest-3")], load, budget=250_000)
    assert list(uris) == [image.digest for image in images]
    assert len(loaded) == len(set(loaded)) == 12
    assert sum(map(len, uris.values())) <= 250_000


def test_images_that_cannot_be_loaded_or_exceed_the_budget_are_missing():
    def load(name, digest):
        return None if name == "gone" else noise(600, 600)

    images = [Image(name, "") for name in ("gone", "there")]
    assert list(thumbnails(images, load, budget=30_000)) == ["there"]
    assert thumbnails([Image("there", "a"), Image("there", "b")], load, budget=1000) == {}


def test_other_errors_of_a_loader_are_raised():
    def load(name, digest):
        raise PermissionError(name)

    with pytest.raises(PermissionError):
        thumbnails([Image("a", "b")], load)

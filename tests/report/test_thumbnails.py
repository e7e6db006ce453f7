import base64
import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.thumbnails import Thumbnails, data_uri, scaled, shrunk, with_boxes
from schema.errors import ImageError
from tests.report.made import FILLS, pil_image


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


def test_a_thumbnail_tells_nothing_of_where_the_image_was_taken():
    file = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x010E] = "taken at home"
    noise(300, 200).save(file, "JPEG", exif=exif, comment=b"my name", icc_profile=b"profile of mine")
    image = PIL.Image.open(file)
    image.load()
    found = base64.b64decode(data_uri(image, 10**6).split(",")[1])
    for secret in (b"home", b"name", b"profile", b"Exif"):
        assert secret not in found


def test_boxes_stand_where_the_table_says_on_copies_of_any_size():
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


def test_drawn_edges_are_exactly_the_scaled_box():
    image = PIL.Image.new("RGB", (200, 100), (255, 255, 255))
    copy = with_boxes(image, [((20, 10, 100, 60), (255, 0, 0))], 100, line_px=1)
    ys, xs = np.nonzero((np.asarray(copy) == (255, 0, 0)).all(axis=2))
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (10, 5, 50, 30)
    assert (np.asarray(image) == 255).all()  # the original is not drawn into


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_a_scaled_box_is_never_empty_nor_outside(width, height, data):
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    drawn = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    a, b, c, d = scaled((x0, y0, x1, y1), (width, height), drawn)
    assert 0 <= a < c <= drawn[0]
    assert 0 <= b < d <= drawn[1]


def test_an_album_holds_each_image_once_and_keeps_its_budget():
    asked = []

    def load(name, digest):
        asked.append(name)
        return noise(300, 300)

    album = Thumbnails(load, n_expected=12, budget=250_000)
    places = [album.index(f"{at}.jpg", f"digest-{at}") for at in range(12)]
    assert places == list(range(12))
    assert album.index("other-name.jpg", "digest-3") == 3
    assert len(asked) == 12
    assert sum(map(len, album.uris)) <= 250_000
    assert album.n_left_out == 0


def test_images_that_are_gone_or_have_no_room_are_counted():
    def load(name, digest):
        if name == "changed":
            raise ImageError("changed since it was ingested", state="broken")
        return None if name == "gone" else noise(600, 600)

    album = Thumbnails(load, n_expected=3, budget=30_000)
    assert [album.index(name, "") for name in ("changed", "gone", "there")] == [None, None, 0]
    assert album.n_left_out == 2
    tight = Thumbnails(load, n_expected=2, budget=1000)
    assert tight.index("there", "a") is None
    assert (tight.n_left_out, tight.uris) == (1, [])


def test_other_errors_of_a_loader_pass():
    def load(name, digest):
        raise PermissionError(name)

    with pytest.raises(PermissionError):
        Thumbnails(load, 1).index("a", "b")

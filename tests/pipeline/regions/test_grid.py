"""Cells of each distinct image, once."""

import numpy as np
import pytest

from pipeline.engine import Memory, Tally
from pipeline.regions.config import RegionsConfig
from pipeline.regions.stage import cell_boxes, extract_grids
from schema.records import Box, Image
from tests.pipeline.drawn import FakeNet, make_image, post
from vision.crops import Transform


def test_one_grid_a_distinct_image(tmp_path):
    first, second = make_image(tmp_path, "1.png", seed=1), make_image(tmp_path, "2.png", seed=2)
    posts = [post("a", first, second), post("b", first), post("c", Image("x", state="missing")), post("d")]
    net, store = FakeNet(), Memory()
    cells, tally = extract_grids(posts, RegionsConfig(batch=3), net, tmp_path, store)
    found = dict(cells)
    assert (tally, net.shapes) == (Tally("grid", 2, 2), [(3, 3, 6, 6)])
    assert list(found) == [first.digest, second.digest]
    features = found[first.digest].features
    assert (features.shape, features.dtype) == ((4, 4), np.float16)
    from vision import images

    pixels = net.transform.pixels(images.load(tmp_path, first)).float()
    assert features[1, 0] == pytest.approx(float(pixels[0, :3, 3:].mean()), rel=1e-3), "row 0, column 1"
    assert found[first.digest].regions[1].box == Box(15, 0, 25, 10)
    assert extract_grids(posts, RegionsConfig(batch=3), net, tmp_path, store)[1] == Tally("grid", 2, 0)


def test_cells_lie_in_the_centre_square_that_the_net_sees():
    image = Image("x", "d", 512, 256)
    cells = cell_boxes(image, Transform(224, 256), 7)
    assert (cells[0], cells[8], cells[48]) == (Box(144, 16, 176, 48), Box(176, 48, 208, 80), Box(336, 208, 368, 240))
    assert cell_boxes(image, Transform(64, 64), 2)[3] == Box(256, 128, 384, 256)
    assert len(set(cell_boxes(Image("x", "d", 1, 1), Transform(224, 256), 7))) == 1

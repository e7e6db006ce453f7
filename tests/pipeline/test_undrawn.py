"""A grounder trained on drawings sees drawings only."""

import pytest

from pipeline.provenance import refuse_real_images
from schema.errors import SyntheticError
from schema.records import Image
from tests.pipeline.drawn import make_image, post


def test_the_first_foreign_image_is_named(tmp_path):
    own, foreign = make_image(tmp_path, "own.png"), make_image(tmp_path, "foreign.png", drawn=False)
    refuse_real_images([post("a", own), post("b"), post("c", Image("gone.jpg", state="missing"))], "part-x")
    with pytest.raises(
        SyntheticError,
        match=r"post d: part-x was trained on drawings, and the project did not draw foreign\.png; use .*",
    ):
        refuse_real_images([post("a", own), post("d", own, foreign)], "part-x")

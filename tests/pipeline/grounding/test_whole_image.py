from PIL import Image

from pipeline.grounding.controls import WholeImage
from pipeline.grounding.grounder import ScoredBox, ground_images


def test_every_query_gets_the_whole_image_with_score_nought() -> None:
    images = [Image.new("RGB", (30, 20)), Image.new("RGB", (5, 7)), Image.new("RGB", (9, 9))]
    found = ground_images(WholeImage(), images, [["person", "the left one"], [], ["a"]])
    assert found == [[ScoredBox((0.0, 0.0, 30.0, 20.0), 0.0)] * 2, [], [ScoredBox((0.0, 0.0, 9.0, 9.0), 0.0)]]


def test_it_is_not_synthetic_and_names_itself() -> None:
    assert not WholeImage().synthetic
    assert WholeImage().identity == {"name": "whole-image", "version": "1"}

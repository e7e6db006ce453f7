"""Every grounder that the registry builds keeps the protocol's promises."""

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import Grounder, ScoredBox, ground_images
from pipeline.grounding.registry import GROUNDERS, build_grounder

TINY = {"owlv2": "owl", "grounding-dino": "dino", "onestage": "released"}  # fixtures of this folder


@pytest.fixture(params=sorted(GROUNDERS))
def grounder(request: pytest.FixtureRequest) -> Grounder:
    folder: Path | str = request.getfixturevalue(TINY[request.param]) if request.param in TINY else ""
    return build_grounder(GroundConfig.checked({"grounder": request.param, "weights": str(folder)}, "data.d.ground"))


def test_one_box_a_query_always(grounder: Grounder) -> None:
    images = [Image.new("RGB", (120, 80), (90, 120, 30)), Image.new("L", (33, 90)), Image.new("RGB", (1, 1))]
    found = ground_images(grounder, images, [["person", "", "\u00a0", "the left star"], [], ["a" * 300]])
    assert [len(row) for row in found] == [4, 0, 1]
    for one in (*found[0], *found[2]):
        assert isinstance(one, ScoredBox)
        assert one.xyxy[0] < one.xyxy[2]
        assert one.xyxy[1] < one.xyxy[3]
        assert 0.0 <= one.score <= 1.0
    assert {"name", "version"} <= grounder.identity.keys()
    assert all(isinstance(value, str) for value in grounder.identity.values())
    assert (grounder.synthetic, grounder.merges) in ((False, False), (True, False), (False, True))
    assert not grounder.is_cut("a dog")


def test_no_images_no_boxes(grounder: Grounder) -> None:
    assert ground_images(grounder, [], []) == []


def test_what_was_found_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ScoredBox((0.0, 0.0, 1.0, 1.0), 0.5).score = 1.0  # type: ignore[misc]

"""Every grounder that the registry builds keeps the protocol's promises."""

import dataclasses

import pytest
from PIL import Image

from pipeline.grounding.config import PRESETS, GroundConfig
from pipeline.grounding.grounder import Found
from pipeline.grounding.registry import build_grounder


@pytest.mark.parametrize("preset", list(PRESETS))
def test_one_box_a_query_always(preset: str) -> None:
    grounder = build_grounder(PRESETS[preset])
    images = [Image.new("RGB", (120, 80), (90, 120, 30)), Image.new("RGB", (33, 90))]
    found = grounder.ground(images, [["person", "", "\u00a0", "the left star"], []])
    assert [len(row) for row in found] == [4, 0]
    for one in found[0]:
        assert isinstance(one, Found)
        assert one.xyxy[0] < one.xyxy[2]
        assert one.xyxy[1] < one.xyxy[3]
        assert 0.0 <= one.score <= 1.0
    assert {"name", "version"} <= grounder.identity.keys()
    assert all(isinstance(value, str) for value in grounder.identity.values())
    assert isinstance(grounder.toy, bool)


def test_no_pictures_no_boxes() -> None:
    for config in PRESETS.values():
        assert build_grounder(config).ground([], []) == []


def test_what_was_found_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Found((0.0, 0.0, 1.0, 1.0), 0.5).score = 1.0  # type: ignore[misc]
    assert GroundConfig().grounder == "toy-onestage"

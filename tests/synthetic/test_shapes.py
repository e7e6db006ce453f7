"""The kinds must look different at 32 px, whatever their colours, and show no size."""

import itertools

import numpy as np
import pytest

from synthetic.shapes import DETAIL_PX, KINDS, Look, sprite

PLAIN = Look((200, 60, 40), (240, 220, 90), (20, 20, 60), 4.0, 0.0, False, 0.5, 1.0)


def _grey(kind: str, look: Look) -> np.ndarray:
    return np.asarray(sprite(kind, look).resize((32, 32)).getchannel("A")).astype(float) / 255


def test_there_are_at_least_twelve_kinds_with_plain_names() -> None:
    assert len(KINDS) == len(set(KINDS)) >= 12
    assert all(kind.isalpha() and kind.islower() for kind in KINDS)
    assert not {"person", "location", "organization", "miscellaneous", "place", "other"} & set(KINDS)


def test_silhouettes_of_two_kinds_differ_more_than_those_of_one_kind() -> None:
    within = max(np.abs(_grey(k, PLAIN) - _grey(k, _turned(8.0, 0.9))).mean() for k in KINDS)
    between = [np.abs(_grey(a, PLAIN) - _grey(b, PLAIN)).mean() for a, b in itertools.combinations(KINDS, 2)]
    assert np.median(between) > within
    assert min(between) > 0.05


def _turned(turn: float, wobble: float) -> Look:
    return Look(PLAIN.fill, PLAIN.accent, PLAIN.ink, PLAIN.ink_width, turn, False, wobble, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sprite_is_cut_to_its_drawing_at_one_level_of_detail(kind: str) -> None:
    for turn in (-16.0, 0.0, 16.0):
        image = sprite(kind, _turned(turn, 0.3))
        assert max(image.size) == DETAIL_PX
        assert min(image.size) > DETAIL_PX * 0.4  # an object is no thin line: IoU 0.5 can be asked of its box
        alpha = np.asarray(image.getchannel("A"))
        assert alpha.any(axis=0).all()
        assert alpha[0].any()
        assert alpha[-1].any()


def test_flip_mirrors_a_sprite() -> None:
    look = _turned(0.0, 0.5)
    mirrored = Look(look.fill, look.accent, look.ink, look.ink_width, 0.0, True, 0.5, 1.0)
    a, b = np.asarray(sprite("flag", look)), np.asarray(sprite("flag", mirrored))
    assert np.abs(a[:, ::-1].astype(int) - b).mean() < 6
    assert np.abs(a.astype(int) - b).mean() > 12

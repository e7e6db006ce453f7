"""Drawn sets hold what the scenes hold, and are drawn once."""

from pathlib import Path

import numpy as np
import pytest

from synthetic import grounder_training
from synthetic.scenes import CUES, TOY_TEST_SEED, random_scene, render
from synthetic.shapes import KINDS


def test_rows_are_the_scenes(tmp_path: Path) -> None:
    drawn = grounder_training.draw(TOY_TEST_SEED, 6, tmp_path)
    assert len(drawn) == 6
    for k in range(6):
        scene = random_scene(TOY_TEST_SEED, k)
        assert np.array_equal(drawn.pixels[k], np.asarray(render(scene)))
        assert [KINDS[i] for i in drawn.kinds[k] if i >= 0] == [thing.kind for thing in scene.things]
        for i, thing in enumerate(scene.things):
            assert tuple(drawn.boxes[k, i]) == thing.box.xyxy
            assert thing.cue is None or drawn.cues[k, i, CUES.index(thing.cue)]
        assert not drawn.cues[k, len(scene.things) :].any()
        assert drawn.cues[k].sum(axis=0).max() <= 1  # a cue is true of one thing at most


def test_chunks_are_drawn_once_and_again_when_the_drawing_code_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grounder_training, "CHUNK", 2)
    told: list[tuple[int, int]] = []
    first = grounder_training.draw(TOY_TEST_SEED, 5, tmp_path, lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]
    calls: list[int] = []
    draw_row = grounder_training._row
    monkeypatch.setattr(grounder_training, "_row", lambda seed, k: calls.append(k) or draw_row(seed, k))
    again = grounder_training.draw(TOY_TEST_SEED, 5, tmp_path)
    assert calls == []
    assert np.array_equal(first.pixels, again.pixels)
    monkeypatch.setattr(grounder_training, "source_digest", lambda: "0" * 64)
    grounder_training.draw(TOY_TEST_SEED, 5, tmp_path)
    assert calls == [0, 1, 2, 3, 4]

"""Drawn sets contain what the scenes contain."""

import numpy as np

from bench.synthetic_grounder import TEST_SEED
from synthetic import grounder_training
from synthetic.scenes import CUES, random_scene, render
from synthetic.shapes import KINDS


def test_rows_are_the_scenes() -> None:
    drawn = grounder_training.draw(TEST_SEED, 6)
    assert len(drawn.kinds) == 6
    for k in range(6):
        scene = random_scene(TEST_SEED, k)
        assert np.array_equal(drawn.pixels[k], np.asarray(render(scene)))
        assert [KINDS[i] for i in drawn.kinds[k] if i >= 0] == [thing.kind for thing in scene.things]
        for i, thing in enumerate(scene.things):
            assert tuple(drawn.boxes[k, i]) == thing.box.xyxy
            assert thing.cue is None or drawn.cues[k, i, CUES.index(thing.cue)]
        assert not drawn.cues[k, len(scene.things) :].any()
        assert drawn.cues[k].sum(axis=0).max() <= 1  # a cue is true of one thing at most

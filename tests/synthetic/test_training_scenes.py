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
        assert [KINDS[i] for i in drawn.kinds[k] if i >= 0] == [item.kind for item in scene.objects]
        for i, item in enumerate(scene.objects):
            assert tuple(drawn.boxes[k, i]) == item.box.xyxy
            assert item.cue is None or drawn.cues[k, i, CUES.index(item.cue)]
        assert not drawn.cues[k, len(scene.objects) :].any()
        assert drawn.cues[k].sum(axis=0).max() <= 1  # a cue is true of one object at most

"""Crops for the kinds: jittered within bounds, cut where the box says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from synthetic.backbone_training import N_CROPS, Batches, crops, jitter
from synthetic.grounder_training import draw
from synthetic.scenes import TOY_TRAIN_SEED
from vision.boxes import iou


def test_jitter_keeps_the_overlap_it_was_asked_for_and_stays_inside() -> None:
    rng = np.random.default_rng(0)
    overlaps = []
    for box in ([2, 2, 24, 20], [60, 40, 130, 120], [140, 100, 158, 126]) * 50:
        x0, y0, x1, y1 = jitter(rng, np.array(box, np.int16), 160, 128)
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= 160
        assert y1 <= 128
        overlaps.append(iou((x0, y0, x1, y1), (box[0], box[1], box[2], box[3])))
    assert min(overlaps) >= 0.5
    assert min(overlaps) < 0.56  # the hard ones occur
    assert max(overlaps) > 0.75
    assert jitter(rng, np.array([5, 6, 20, 30]), 160, 128, 1.0) == (5, 6, 20, 30)


def test_a_crop_holds_its_box_standardised() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[4:10, 6:18] = (255, 51, 0)
    inside, half = crops([image, image], [(6, 4, 18, 10), (6, 4, 30, 10)])
    assert inside.shape == (3, 48, 48)
    assert torch.allclose(inside.mean(dim=(1, 2)), torch.tensor([2.0, -1.2, -2.0]), atol=1e-5)
    assert half[0, :, :20].min() > 1.9
    assert half[0, :, 28:].max() < -1.9


def test_a_batch_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    drawn = draw(TOY_TRAIN_SEED, 8, tmp_path)
    x, kinds = Batches(drawn, 0)(4)
    again, same = Batches(drawn, 0)(4)
    assert x.shape == (N_CROPS, 3, 48, 48)
    assert torch.equal(x, again)
    assert torch.equal(kinds, same)
    assert set(kinds.tolist()) == set(drawn.kinds[drawn.kinds >= 0].tolist())
    assert not torch.equal(x, Batches(drawn, 0)(5)[0])
    assert kinds.dtype == torch.int64


@pytest.mark.parametrize("least", [0.5, 0.8])
def test_jitter_ends_for_a_box_at_the_corner(least: float) -> None:
    assert jitter(np.random.default_rng(1), np.array([0, 0, 160, 128]), 160, 128, least)[2] > 80

import random
from collections import Counter
from dataclasses import replace

import pytest

from cache import maintenance
from pipeline.grounding.grounder import ScoredBox
from pipeline.maintenance import BOX_PX, FEATURES, open_stores, recompute_rows, steps
from schema.errors import ImageError
from tests.pipeline.drawn import FakeGrounder, FakeNet, make_image
from tests.pipeline.stored import FakeParser, Parts, all_keys, four_posts, prepared, run_stages


@pytest.fixture
def one(tmp_path):
    found = prepared(tmp_path / "images", four_posts(tmp_path / "images"), Parts())
    run_stages(found, tmp_path / "store")
    return found


def again(one, root, parts, n_rows=1000, seed=0):
    """Recompute with other parts that say they are the same."""
    with open_stores(root) as stores:
        return recompute_rows(replace(one, pipeline=parts.pipeline()), stores, n_rows, random.Random(seed))


def moved(found):
    return Counter(row.stage for row in found if row.change)


class ShiftedGrounder(FakeGrounder):
    by_px = 0.0

    def ground(self, images, queries):
        return [
            [ScoredBox((box.xyxy[0] + self.by_px, *box.xyxy[1:]), box.score) for box in listed]
            for listed in super().ground(images, queries)
        ]


class ScaledNet(FakeNet):
    by = 1.0

    def forward(self, crops):
        return super().forward(crops) * self.by


def test_each_row_is_computed_once_more_and_agrees(one, tmp_path):
    before = all_keys(tmp_path / "store")
    found = again(one, tmp_path / "store", Parts())
    assert {row.key for row in found} == before
    assert len(found) == len(before)
    assert not moved(found)
    assert all_keys(tmp_path / "store") == before


def test_a_sample_takes_from_every_stage_and_computes_no_more(one, tmp_path):
    parts = Parts()
    found = again(one, tmp_path / "store", parts, 6)
    assert Counter(row.stage for row in found) == {"phrases": 2, "ground": 2, "regions": 2}
    assert parts.grounder.n_asked == 2
    other = again(one, tmp_path / "store", Parts(), 6, seed=1)
    assert {row.key for row in found} != {row.key for row in other}
    assert found == again(one, tmp_path / "store", Parts(), 6)


@pytest.mark.parametrize(("by_px", "n_moved"), [(BOX_PX * 0.9, 0), (BOX_PX * 1.1, 14)])
def test_boxes_that_move(one, tmp_path, by_px, n_moved):
    parts = Parts(grounder=ShiftedGrounder())
    parts.grounder.by_px = by_px
    found = again(one, tmp_path / "store", parts)
    assert moved(found) == Counter(ground=n_moved)
    assert n_moved == 0 or {row.change for row in found} == {"", "corners by 0.55 pixels, score by 0"}


@pytest.mark.parametrize(("part", "all_move"), [(0.9, False), (1.1, True)])
def test_features_that_move(one, tmp_path, part, all_move):
    parts = Parts(net=ScaledNet())
    parts.net.by = 1 + FEATURES["float32"] * part
    found = again(one, tmp_path / "store", parts)
    assert moved(found) == (Counter(regions=sum(row.stage == "regions" for row in found)) if all_move else Counter())
    assert not all_move or any("of its largest number, more than 0.001" in row.change for row in found)


def test_trees_that_move(one, tmp_path):
    parts = Parts(parser=FakeParser())
    parts.parser.label = "VP"
    found = again(one, tmp_path / "store", parts)
    assert moved(found) == Counter(phrases=3)
    assert {row.change for row in found} == {"", "another tree"}


def test_posts_that_the_store_holds_in_part_are_not_drawn(one, tmp_path):
    with open_stores(tmp_path / "store") as stores:
        plans = {step.plan.stage: step.plan for step in steps(one, stores)}
    maintenance.forget(tmp_path / "store", [plans["ground"].keys["b"][0]])
    parts = Parts()
    found = again(one, tmp_path / "store", parts)
    assert "b" not in {row.post_id for row in found if row.stage == "ground"}
    assert {row.post_id for row in found if row.stage == "phrases"} == {"a", "c", "d"}  # b and d have one tree
    assert parts.grounder.n_asked == 6


def test_another_image_by_now_is_an_error(one, tmp_path):
    make_image(tmp_path / "images", "a.png", seed=9)
    with pytest.raises(ImageError, match=r"a\.png"):
        again(one, tmp_path / "store", Parts())

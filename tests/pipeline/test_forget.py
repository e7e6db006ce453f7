"""After forgetting a post: nothing of it is in the store, and nobody else computes a row."""

from dataclasses import replace

import numpy as np
import pytest

from cache import keys, maintenance
from cache.store import Store
from pipeline.grounding.config import GroundConfig
from pipeline.maintenance import keys_of_post, open_stores, other_producers, sharing, steps
from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.stage import STORE_SCHEMA
from tests.pipeline.drawn import FakeNet
from tests.pipeline.stored import NET, Parts, all_keys, four_posts, prepared, run_stages


@pytest.fixture
def one(tmp_path):
    found = prepared(tmp_path / "images", four_posts(tmp_path / "images"), Parts())
    return run_stages(found, tmp_path / "store")


def named(one, post_id, root):
    post = next(post for post in one.posts.posts if post.id == post_id)
    with open_stores(root) as stores:
        return keys_of_post(one, post, stores)


def used(one, ids, root):
    with open_stores(root) as stores:
        needed = steps(one.only([post for post in one.posts.posts if post.id in ids]), stores)
        return {key for step in needed for key in step.plan.items}


@pytest.mark.parametrize("post_id", ["a", "b", "c"])
def test_every_row_of_a_post_is_named(one, tmp_path, post_id):
    assert used(one, post_id, tmp_path / "store") <= named(one, post_id, tmp_path / "store")


def test_the_empty_image_belongs_to_nobody(one, tmp_path):
    found = used(one, "d", tmp_path / "store") - named(one, "d", tmp_path / "store")
    with open_stores(tmp_path / "store") as stores:
        assert not stores["regions"].missing(found)
    assert len(found) == 1


def test_nothing_of_it_is_left_and_nobody_else_computes(one, tmp_path):
    root, before = tmp_path / "store", all_keys(tmp_path / "store")
    own = named(one, "a", root) - used(one, "bcd", root)
    found = maintenance.forget(root, own)
    assert found.n_left == 0
    assert found.n_rows == len(before & own)
    assert all_keys(root) == before - own == used(one, "bcd", root)
    parts = Parts()
    run_stages(replace(one.only(one.posts.posts[1:]), pipeline=parts.pipeline()), root)
    assert (parts.grounder.calls, parts.net.shapes) == ([], [])


def test_rows_that_were_read_together_are_named(tmp_path):
    parts = Parts()
    parts.grounder.merges = True
    one = run_stages(prepared(tmp_path / "images", four_posts(tmp_path / "images"), parts), tmp_path / "store")
    for post_id in "abc":
        assert used(one, post_id, tmp_path / "store") <= named(one, post_id, tmp_path / "store")
    apart = replace(one, pipeline=Parts().pipeline())
    assert not used(one, "b", tmp_path / "store") <= named(apart, "b", tmp_path / "store")


def test_rows_of_other_caps_and_kinds_of_phrases_are_named_too(tmp_path):
    wide = Parts(regions=NET.model_copy(update={"store_dtype": "float16", "grid": True}))
    one = prepared(tmp_path / "images", four_posts(tmp_path / "images"), wide)
    run_stages(one, tmp_path / "store")
    narrow = Parts(phrases=PhrasesConfig(max_phrases=0), ground=GroundConfig(n_phrases_max=0))
    today = replace(one, pipeline=narrow.pipeline())
    before = used(one, "b", tmp_path / "store")
    assert before - used(today, "b", tmp_path / "store")
    assert before <= named(today, "b", tmp_path / "store")


def test_tables_name_boxes_that_the_store_has_lost(one, tmp_path):
    with open_stores(tmp_path / "store") as stores:
        _, ground, regions = (step.plan for step in steps(one, stores))
    maintenance.forget(tmp_path / "store", list(ground.items))
    assert set(regions.keys["b"]) <= named(one, "b", tmp_path / "store")
    assert not set(regions.keys["b"]) <= named(replace(one, boxes={}), "b", tmp_path / "store")


def test_posts_that_share(one):
    a, b, c, d = one.posts.posts
    assert sharing(a, [b, c, d]) == [c]
    assert sharing(b, [a, c, d]) == [d]
    blank = replace(d, id="e", words=("RT",), text="RT", offsets=((0, 2),))
    assert sharing(blank, [replace(blank, id="f"), d]) == []


def test_parts_of_another_time_are_named(one, tmp_path):
    root = tmp_path / "new"
    for name, identity in (("phrases", {"name": "fake-parser", "version": "1"}), ("regions", FakeNet("0").identity)):
        schema = STORE_SCHEMA if name == "phrases" else None
        with Store(root / name, schema=schema, producer=identity) as store:
            store.put({keys.key(name): [] if schema else np.zeros(3, np.float32)})
    assert other_producers(root, one.pipeline) == ["fake"]

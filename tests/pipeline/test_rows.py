from dataclasses import replace

import pytest

from cache import maintenance
from cache.tables import Posts
from pipeline.grounding.stage import ground_posts
from pipeline.maintenance import open_stores, steps
from pipeline.phrases.stage import find_phrases
from pipeline.regions.stage import extract_objects
from schema.labels import LabelSet
from tests.pipeline.drawn import LABELS
from tests.pipeline.stored import NET, Parts, all_keys, four_posts, prepared, run_stages


@pytest.fixture
def parts():
    return Parts()


@pytest.fixture
def bare(tmp_path, parts):
    """The dataset without tables."""
    return prepared(tmp_path / "images", four_posts(tmp_path / "images"), parts)


def fill(bare, root, parts):
    """The rows as the stages themselves put them: the oracle. Returns the tables."""
    posts = bare.posts.posts
    with open_stores(root) as stores:
        parsed, _ = find_phrases(posts, parts.phrases, parts.parser, stores["phrases"])
        boxes, _ = ground_posts(posts, parsed, LABELS, parts.ground, parts.grounder, bare.images, stores["boxes"])
        extract_objects(posts, boxes, LABELS, parts.regions, parts.net, bare.images, stores["regions"])
    return replace(bare, phrases=parsed, boxes=boxes)


def asked(one, root):
    with open_stores(root) as stores:
        return {step.plan.stage: step.plan for step in steps(one, stores)}


def union(plans):
    return {key for plan in plans.values() for key in plan.items}


def test_what_is_wanted_is_what_the_stages_put(bare, parts, tmp_path):
    fill(bare, tmp_path / "store", parts)
    plans = asked(bare, tmp_path / "store")
    assert list(plans) == ["phrases", "ground", "regions"]
    assert union(plans) == all_keys(tmp_path / "store")
    counts = {name: {post_id: len(keys) for post_id, keys in plan.keys.items()} for name, plan in plans.items()}
    assert counts["phrases"] == dict.fromkeys("abcd", 1)
    assert counts["ground"] == {"a": 4, "b": 8, "c": 4, "d": 0}  # two general words and two phrases, each image
    assert counts["regions"]["d"] == 1
    assert plans["phrases"].keys["b"] == plans["phrases"].keys["d"]


def test_asking_computes_and_stores_nothing(bare, parts, tmp_path):
    asked(fill(bare, tmp_path / "store", Parts()), tmp_path / "empty")
    assert all_keys(tmp_path / "empty") == set()
    assert (parts.grounder.calls, parts.net.shapes) == ([], [])


def test_tables_say_what_the_store_does_not(bare, parts, tmp_path):
    full = fill(bare, tmp_path / "store", parts)
    assert union(asked(full, tmp_path / "empty")) == all_keys(tmp_path / "store")


def test_without_store_and_tables_only_the_first_steps_are_known(bare, parts, tmp_path):
    fill(bare, tmp_path / "store", parts)
    plans = asked(bare, tmp_path / "empty")
    assert {post_id: len(keys) for post_id, keys in plans["ground"].keys.items()} == {"a": 2, "b": 4, "c": 2, "d": 0}
    assert list(plans["regions"].keys) == ["d"]
    assert union(plans) < all_keys(tmp_path / "store")


def test_rows_that_come_in_between_two_steps_count(bare, parts, tmp_path):
    fill(bare, tmp_path / "store", parts)
    with open_stores(tmp_path / "store") as there, open_stores(tmp_path / "here") as here:
        for step in steps(bare, here):
            keys = list(step.plan.items)
            rows = there[step.store].get(keys)
            with open_stores(tmp_path / "here") as writer:
                writer[step.store].put(dict(zip(keys, rows, strict=True)))
    assert all_keys(tmp_path / "here") == all_keys(tmp_path / "store")


def test_a_post_is_held_when_all_its_rows_are(bare, parts, tmp_path):
    fill(bare, tmp_path / "store", parts)
    lost = asked(bare, tmp_path / "store")["regions"].keys["b"][-1]
    maintenance.forget(tmp_path / "store", [lost])
    with open_stores(tmp_path / "store") as stores:
        plan = asked(bare, tmp_path / "store")["regions"]
        assert plan.complete(stores["regions"]) == {"a", "c", "d"}


def test_some_posts_want_their_own_rows_only(bare, parts, tmp_path):
    fill(bare, tmp_path / "store", parts)
    plans, every = asked(bare.only(bare.posts.posts[:1]), tmp_path / "store"), asked(bare, tmp_path / "store")
    assert {name: plan.keys for name, plan in plans.items()} == {
        name: {"a": plan.keys["a"]} for name, plan in every.items()
    }


def test_boxes_of_older_labels_say_nothing(bare, parts, tmp_path):
    full = fill(bare, tmp_path / "store", parts)
    renamed = replace(full, posts=Posts(full.posts.posts, LabelSet({"PER": "person", "LOC": "town"}, {})))
    assert list(asked(renamed, tmp_path / "store")["regions"].keys) == ["d"]


def test_grids_are_wanted_where_the_parameters_say_so(tmp_path):
    parts = Parts(regions=NET.model_copy(update={"grid": True}))
    one = prepared(tmp_path / "images", four_posts(tmp_path / "images"), parts)
    run_stages(one, tmp_path / "store")
    plan = asked(one, tmp_path / "store")["grid"]
    assert {post_id: len(keys) for post_id, keys in plan.keys.items()} == {"a": 1, "b": 2, "c": 1, "d": 0}
    assert set(plan.items) <= all_keys(tmp_path / "store")

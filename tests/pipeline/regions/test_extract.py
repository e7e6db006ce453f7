"""Rows: right, once, each image decoded once, independent of batches, kept when a run dies."""

import numpy as np
import pytest
import torch

from cache.maintenance import verify
from cache.store import Store
from pipeline.engine import Memory, Tally
from pipeline.regions import stage as regions_stage
from pipeline.regions.config import RegionsConfig
from pipeline.regions.stage import EMPTY_BOX, Crop, extract_objects, net_key, row_key
from schema.errors import ImageError, WeightsError
from schema.labels import LabelSet
from schema.records import Box, Image
from tests.cache.rows import flip, stored_keys
from tests.pipeline.drawn import LABELS, FakeNet, by_post, chosen, feature, make_image, phrases, post
from vision import images

PINNED_KEY = "8a73267e53e9c3ae8c0a3187ad252d79df5aa299ba9774d0e800b0269a5947c9"
CONFIG = RegionsConfig(batch=4, workers=2)


@pytest.fixture
def data(tmp_path):
    """Three posts: one image; none; two images, the first of them again. 3 + 1 + 7 objects, 8 distinct crops."""
    first, second = make_image(tmp_path, "1.png", seed=1), make_image(tmp_path, "2.png", 17, 40, seed=2)
    posts = [post("a", first), post("b", Image("gone.png", state="missing")), post("c", first, second)]
    boxes = [
        ("a", chosen("person", (0, 0, 5, 5))),
        ("a", chosen("place", (3, 4, 20, 20))),
        ("c", chosen("person", (0, 0, 5, 5), index=0)),
        ("c", chosen("place", (3, 4, 16, 21), index=1)),
        ("c", chosen("place", (3, 4, 20, 20), index=0)),
        ("c", chosen("person", (0, 0, 1, 1), index=1)),
        ("c", chosen("a tiny dog", (5, 5, 17, 39), (0, 3), index=1)),
    ]
    return tmp_path, posts, boxes


def run(data, net, store=None, config=CONFIG, **more):
    folder, posts, boxes = data
    objects, tally = extract_objects(posts, by_post(boxes), LABELS, config, net, folder, store, **more)
    return dict(objects), tally


def test_each_object_has_the_feature_of_its_crop(data):
    objects, tally = run(data, FakeNet())
    folder, posts, _ = data
    assert list(objects) == ["a", "b", "c"]
    assert [len(one.regions) for one in objects.values()] == [3, 1, 7]
    assert tally == Tally("regions", 8, 8)
    for one_post in posts:
        one = objects[one_post.id]
        assert (one.features.dtype, one.features.shape) == (np.float32, (len(one.regions), 4))
        for row, region in zip(one.features, one.regions, strict=True):
            image = one_post.images[region.box.image_index] if region.box else None
            assert np.allclose(row, feature(folder, image, region.box and region.box.xyxy), atol=0.01), region


def test_nothing_is_computed_twice(data, tmp_path):
    with Store(tmp_path / "store") as store:
        before, _ = run(data, FakeNet(), store)
    net = FakeNet()
    with Store(tmp_path / "store") as store:
        after, tally = run(data, net, store)
    assert (tally, net.shapes) == (Tally("regions", 8, 0), [])
    assert all(np.array_equal(before[key].features, after[key].features) for key in before)


def test_a_shard_damaged_between_asking_and_reading_is_computed_again(data, tmp_path, caplog):
    with Store(tmp_path / "store") as store:
        before, _ = run(data, FakeNet(), store)
    (shard,) = (tmp_path / "store").rglob("shards/*.h5")
    folder, posts, boxes = data
    with Store(tmp_path / "store") as store:
        objects, tally = extract_objects(posts, by_post(boxes), LABELS, CONFIG, FakeNet(), folder, store)
        flip(shard, shard.stat().st_size - 20)
        after = dict(objects)
    assert tally == Tally("regions", 8, 0), "it was whole when the stage asked"
    assert all(np.array_equal(before[key].features, after[key].features) for key in before)
    assert "damaged shard" in caplog.text
    assert "8 row(s) computed again" in caplog.text
    assert verify(tmp_path / "store").clean


def test_a_new_post_computes_its_rows_only(data):
    store, net = Memory(), FakeNet()
    run(data, net, store)
    folder, posts, boxes = data
    third = make_image(folder, "3.png", seed=3)
    more = [("d", chosen(word, (1, 1, 9, 9))) for word in LABELS.general_words]
    net = FakeNet()
    _, tally = run((folder, [*posts, post("d", third)], boxes + more), net, store)
    assert tally == Tally("regions", 10, 2)
    assert net.shapes == [(4, 3, 6, 6)]


def test_phrases_beyond_the_cap_are_counted(data):
    folder, posts, boxes = data
    more = [("c", chosen("Paris", (1, 1, 9, 9), (4, 5))), ("c", chosen("dog", (1, 2, 9, 9), (2, 3)))]
    capped, tally = run((folder, posts, boxes + more), FakeNet(), config=RegionsConfig(batch=4, max_phrases=1))
    assert [region.text for region in capped["c"].regions if region.span] == ["dog"], "the longest are cut"
    assert (tally.n_cut, run((folder, posts, boxes + more), FakeNet())[1].n_cut) == (2, 0)
    paper = RegionsConfig(batch=4, max_phrases=1, no_image="paper")
    parsed = [phrases("b", (0, 3), (4, 5)), phrases("a")]
    assert run((folder, posts, boxes), FakeNet(), config=paper, phrases=parsed)[1].n_cut == 1


def test_a_new_word_computes_its_regions_only(data):
    folder, posts, boxes = data
    store = Memory()
    run(data, FakeNet(), store)
    wider = LabelSet({"PER": "person", "LOC": "place", "ORG": "group"}, {})
    more = [("a", chosen("group", (2, 2, 8, 8))), *(("c", chosen("group", (2, 2, 8, 8 + i), index=i)) for i in (0, 1))]
    _, tally = extract_objects(posts, by_post(boxes + more), wider, CONFIG, FakeNet(), folder, store)
    assert tally == Tally("regions", 10, 2)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_image_is_decoded_once_and_batches_have_one_shape(data, workers, monkeypatch):
    loaded, load = [], images.load
    monkeypatch.setattr(
        regions_stage.images, "load", lambda folder, image: loaded.append(image.name) or load(folder, image)
    )
    net = FakeNet()
    run(data, net, config=RegionsConfig(batch=3, workers=workers))
    assert sorted(loaded) == ["1.png", "2.png"]
    assert net.shapes == [(3, 3, 6, 6)] * 3, "8 crops: two full batches and a padded one"


def test_only_stored_rows_are_padded_to_the_full_batch(data):
    config = RegionsConfig(batch=64, workers=0)
    for store, n_crops in ((Memory(), 64), (None, 8)):
        net = FakeNet()
        run(data, net, store, config)
        assert net.shapes == [(n_crops, 3, 6, 6)]


def test_a_batch_is_not_overwritten_while_a_gpu_may_still_read_it(data):
    """As if the pass over a batch were done only when its rows are asked for."""
    net = FakeNet()
    net.forward = lambda crops: crops[:, :, 0, 0]
    objects, _ = run(data, net, config=RegionsConfig(batch=2, workers=0))
    folder, posts, _ = data
    for row, region in zip(objects["c"].features, objects["c"].regions, strict=True):
        wanted = feature(folder, posts[2].images[region.box.image_index], region.box.xyxy)
        assert row[0] == wanted[3]


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 64])
def test_rows_do_not_depend_on_the_batch(data, batch):
    objects, _ = run(data, FakeNet(), config=RegionsConfig(batch=batch, workers=2))
    reference, _ = run(data, FakeNet())
    assert all(np.allclose(objects[key].features, reference[key].features, atol=1e-4) for key in reference)


def test_an_interrupted_run_goes_on(data, tmp_path):
    net = FakeNet()
    net.fail_at = 2
    with Store(tmp_path / "store") as store, pytest.raises(KeyboardInterrupt):
        run(data, net, store, RegionsConfig(batch=2, workers=1))
    with Store(tmp_path / "store") as store:
        kept = len(stored_keys(tmp_path / "store"))
        objects, tally = run(data, FakeNet(), store, RegionsConfig(batch=2, workers=1))
    assert kept == 2, "two batches were passed, one was taken"
    assert tally == Tally("regions", 8, 6)
    reference, _ = run(data, FakeNet())
    assert all(np.array_equal(objects[key].features, reference[key].features) for key in reference)


def test_empty_images_repeat_for_the_paper(data):
    parsed = [phrases("b", (0, 3), (4, 5))]
    objects, tally = run(data, FakeNet(), config=RegionsConfig(batch=4, no_image="paper"), phrases=parsed)
    assert [region.text for region in objects["b"].regions] == ["", "person", "place", "a tiny dog", "Paris"]
    assert len(np.unique(objects["b"].features, axis=0)) == 1
    assert tally.n_rows == 8


def test_half_precision_rows(data):
    objects, _ = run(data, FakeNet(), config=RegionsConfig(batch=4, store_dtype="float16"))
    reference, _ = run(data, FakeNet())
    assert objects["c"].features.dtype == np.float16
    assert np.array_equal(objects["c"].features, reference["c"].features.astype(np.float16))


@pytest.mark.parametrize(("value", "dtype"), [(1e6, "float16"), (float("nan"), "float32"), (float("inf"), "float32")])
def test_features_must_be_finite(data, value, dtype, monkeypatch):
    net = FakeNet()
    monkeypatch.setattr(net, "forward", lambda crops: torch.full((len(crops), 4), value))
    with pytest.raises(WeightsError, match=rf"a feature is not finite in {dtype}; check the weights, or set regions"):
        run(data, net, config=RegionsConfig(batch=4, store_dtype=dtype))


def test_an_image_that_changed_ends_the_run(data):
    make_image(data[0], "2.png", seed=9)
    with pytest.raises(ImageError, match=r"2\.png: the image changed since ingest"):
        run(data, FakeNet())


def test_keys_name_what_changes_numbers_and_nothing_else(tmp_path):
    image, net = make_image(tmp_path, "1.png"), net_key(FakeNet())
    base = row_key(Crop(image, Box(0, 0, 5, 5)), net, "float32")
    renamed = Image("elsewhere/2.png", image.digest, image.width, image.height, synthetic=False)
    assert row_key(Crop(renamed, Box(0, 0, 5, 5, image_index=3)), net, "float32") == base
    others = {
        row_key(Crop(image, Box(0, 0, 5, 6)), net, "float32"),
        row_key(Crop(make_image(tmp_path, "2.png", seed=1), Box(0, 0, 5, 5)), net, "float32"),
        row_key(Crop(None, EMPTY_BOX), net, "float32"),
        row_key(Crop(image, Box(0, 0, 5, 5)), net_key(FakeNet(version="2")), "float32"),
        row_key(Crop(image, Box(0, 0, 5, 5)), net, "float16"),
        row_key(Crop(image, Box(0, 0, 5, 5)), net, "float32", "grid"),
    }
    assert len(others | {base}) == 7
    # pinned: a key that moves recomputes every row of everybody
    assert row_key(Crop(None, EMPTY_BOX), "net", "float32") == PINNED_KEY

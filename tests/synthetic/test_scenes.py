"""Scenes depend on their generator only, boxes bound what is drawn, and training never sees a shard's images."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from bench.synthetic_grounder import TEST_SEED
from synthetic.grounder_training import TRAIN_SEED
from synthetic.scenes import HEIGHT_PX, WIDTH_PX, Scene, ThingSpec, compose, png_bytes, random_scene, render, shard_rng
from synthetic.shapes import KINDS
from vision.images import DRAWN_KEY


def _digest(scene: Scene) -> str:
    return hashlib.sha256(render(scene).tobytes()).hexdigest()


def test_a_scene_depends_on_seed_and_k_alone() -> None:
    alone = random_scene(TEST_SEED, 7)
    among = [random_scene(TEST_SEED, k) for k in range(9)][7]
    assert alone.things == among.things
    assert png_bytes(alone) == png_bytes(among) != png_bytes(random_scene(TEST_SEED, 8))


def test_image_digests_of_training_testing_and_shards_are_disjoint() -> None:
    wanted = [ThingSpec("star", "left"), ThingSpec("cup")]
    digests = [
        {_digest(random_scene(TRAIN_SEED, k)) for k in range(25)},
        {_digest(random_scene(TEST_SEED, k)) for k in range(25)},
        *({_digest(compose(shard_rng(seed, k), wanted)) for k in range(25)} for seed in (0, 1, 2)),
    ]
    assert [len(group) for group in digests] == [25] * 5
    assert len(set.union(*digests)) == 125


def test_generators_of_training_and_shards_never_meet_at_the_same_numbers() -> None:
    for seed in (0, TRAIN_SEED, TEST_SEED):
        wanted = [ThingSpec("star", "left")]
        synthetic = compose(np.random.default_rng([7001, seed, 3]), wanted)
        assert _digest(synthetic) != _digest(compose(shard_rng(seed, 3), wanted))


def test_thing_i_fulfils_wanted_i() -> None:
    wanted = [ThingSpec("fish", "huge"), ThingSpec("star", "upper"), ThingSpec("key"), ThingSpec("cup", "tiny")]
    scene = compose(np.random.default_rng(0), wanted)
    assert [(thing.kind, thing.cue) for thing in scene.things] == [(want.kind, want.cue) for want in wanted]
    assert compose(np.random.default_rng(0), []).things == ()


def test_a_box_bounds_exactly_what_is_drawn_of_its_thing() -> None:
    for k in range(12):
        scene = random_scene(TEST_SEED, k)
        bare = np.asarray(render(dataclasses.replace(scene, things=()))).astype(int)
        for thing in scene.things:
            only = np.asarray(render(dataclasses.replace(scene, things=(thing,)))).astype(int)
            changed = np.abs(only - bare).sum(axis=2) > 12
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert np.abs(found - np.array(thing.box.xyxy)).max() <= 2, thing


def test_things_stand_out_from_the_background() -> None:
    contrasts = []
    for k in range(40):
        scene = random_scene(TEST_SEED, k)
        behind = scene.background.mean((0, 1))
        contrasts += [np.linalg.norm(np.array(thing.look.fill) - behind) for thing in scene.things]
    assert min(contrasts) > 70


def test_every_kind_and_cue_occurs_among_the_random_scenes() -> None:
    things = [thing for k in range(120) for thing in random_scene(TRAIN_SEED, k).things]
    assert {thing.kind for thing in things} == set(KINDS)
    assert {thing.cue for thing in things} >= {"left", "right", "upper", "lower", "tiny", "huge", None}


def test_a_saved_scene_says_that_it_was_drawn_and_keeps_its_pixels(tmp_path: Path) -> None:
    scene = random_scene(TEST_SEED, 0)
    (tmp_path / "a.png").write_bytes(png_bytes(scene))
    with Image.open(tmp_path / "a.png") as image:
        assert image.info[DRAWN_KEY] == "1"
        assert image.size == (WIDTH_PX, HEIGHT_PX)
        assert np.array_equal(np.asarray(image), np.asarray(render(scene)))

"""Scenes depend on their generator only, boxes bound what is drawn, and training never sees a dataset's images."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from bench.synthetic_grounder import TEST_SEED
from synthetic.grounder_training import TRAIN_SEED
from synthetic.scenes import (
    HEIGHT_PX,
    WIDTH_PX,
    ObjectSpec,
    Scene,
    compose,
    dataset_rng,
    png_bytes,
    random_scene,
    render,
)
from synthetic.shapes import KINDS
from vision.images import DRAWN_KEY


def _digest(scene: Scene) -> str:
    return hashlib.sha256(render(scene).tobytes()).hexdigest()


def test_a_scene_depends_on_seed_and_k_alone() -> None:
    alone = random_scene(TEST_SEED, 7)
    among = [random_scene(TEST_SEED, k) for k in range(9)][7]
    assert alone.objects == among.objects
    assert png_bytes(alone) == png_bytes(among) != png_bytes(random_scene(TEST_SEED, 8))


def test_image_digests_of_training_testing_and_datasets_are_disjoint() -> None:
    wanted = [ObjectSpec("star", "left"), ObjectSpec("cup")]
    digests = [
        {_digest(random_scene(TRAIN_SEED, k)) for k in range(25)},
        {_digest(random_scene(TEST_SEED, k)) for k in range(25)},
        *({_digest(compose(dataset_rng(seed, k), wanted)) for k in range(25)} for seed in (0, 1, 2)),
    ]
    assert [len(group) for group in digests] == [25] * 5
    assert len(set.union(*digests)) == 125


def test_generators_of_training_and_datasets_never_meet_at_the_same_numbers() -> None:
    for seed in (0, TRAIN_SEED, TEST_SEED):
        wanted = [ObjectSpec("star", "left")]
        synthetic = compose(np.random.default_rng([7001, seed, 3]), wanted)
        assert _digest(synthetic) != _digest(compose(dataset_rng(seed, 3), wanted))


def test_object_i_fulfils_wanted_i() -> None:
    wanted = [ObjectSpec("fish", "huge"), ObjectSpec("star", "upper"), ObjectSpec("key"), ObjectSpec("cup", "tiny")]
    scene = compose(np.random.default_rng(0), wanted)
    assert [(item.kind, item.cue) for item in scene.objects] == [(want.kind, want.cue) for want in wanted]
    assert compose(np.random.default_rng(0), []).objects == ()


def test_a_box_bounds_exactly_what_is_drawn_of_its_object() -> None:
    for k in range(12):
        scene = random_scene(TEST_SEED, k)
        bare = np.asarray(render(dataclasses.replace(scene, objects=()))).astype(int)
        for item in scene.objects:
            only = np.asarray(render(dataclasses.replace(scene, objects=(item,)))).astype(int)
            changed = np.abs(only - bare).sum(axis=2) > 12
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert np.abs(found - np.array(item.box.xyxy)).max() <= 2, item


def test_objects_stand_out_from_the_background() -> None:
    contrasts = []
    for k in range(40):
        scene = random_scene(TEST_SEED, k)
        behind = scene.background.mean((0, 1))
        contrasts += [np.linalg.norm(np.array(item.look.fill) - behind) for item in scene.objects]
    assert min(contrasts) > 70


def test_every_kind_and_cue_occurs_among_the_random_scenes() -> None:
    objects = [item for k in range(120) for item in random_scene(TRAIN_SEED, k).objects]
    assert {item.kind for item in objects} == set(KINDS)
    assert {item.cue for item in objects} >= {"left", "right", "upper", "lower", "tiny", "huge", None}


def test_a_saved_scene_says_that_it_was_drawn_and_keeps_its_pixels(tmp_path: Path) -> None:
    scene = random_scene(TEST_SEED, 0)
    (tmp_path / "a.png").write_bytes(png_bytes(scene))
    with Image.open(tmp_path / "a.png") as image:
        assert image.info[DRAWN_KEY] == "1"
        assert image.size == (WIDTH_PX, HEIGHT_PX)
        assert np.array_equal(np.asarray(image), np.asarray(render(scene)))

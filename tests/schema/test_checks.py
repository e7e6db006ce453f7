"""Data that make training or its scores meaningless are reported."""

from __future__ import annotations

from dataclasses import replace

from schema.checks import splits_without_entities, training_warnings, unusable_images
from schema.records import Image, Post, joined

TEXT, OFFSETS = joined(["Ann", "sings"])
GOOD, LOST, LEFT = Image("a.png", "0" * 64, 8, 8), Image("b.png", state="missing"), Image("c.png", state="refused")
TRAIN = Post("a", "train", ("Ann", "sings"), TEXT, OFFSETS, ("B-PER", "O"), (GOOD,))
DEV = replace(TRAIN, id="b", split="dev", tags=("I-PER", "O"), images=(LOST, LEFT, GOOD))


def test_splits_without_entities() -> None:
    test, unlabelled = replace(DEV, split="test", tags=("O", "O")), replace(DEV, split="predict", tags=None)
    assert splits_without_entities([TRAIN, DEV, test, unlabelled]) == ["dev", "test"]  # an orphan I- opens no entity
    assert splits_without_entities([TRAIN, DEV, replace(DEV, tags=("O", "B-PER"))]) == []


def test_unusable_images_are_counted_and_most_of_them_in_capitals() -> None:
    message = "MOST IMAGES ARE UNUSABLE: 2 of 3 image(s) cannot be used (1 missing, 1 refused)"
    assert unusable_images([TRAIN, DEV]) == {"dev": message}
    assert unusable_images([TRAIN, replace(TRAIN, images=())]) == {}  # text-only posts are not missing images
    few = [replace(DEV, images=(GOOD, GOOD, LOST))]
    assert unusable_images(few) == {"dev": "1 of 3 image(s) cannot be used (1 missing)"}


def test_training_warnings() -> None:
    posts = [TRAIN, DEV, replace(DEV, split="test")]
    no_entity = "dev has labeled posts but no entity, so no epoch can be better than another: check its labels"
    images = (
        "dev: MOST IMAGES ARE UNUSABLE: 2 of 3 image(s) cannot be used (1 missing, 1 refused), so their posts have "
        "the empty image: run fmit doctor"
    )
    assert training_warnings(posts, reads_images=True) == [no_entity, images]
    assert training_warnings(posts, reads_images=False) == [no_entity]
    assert training_warnings([TRAIN, replace(DEV, tags=("B-PER", "O"), images=())], reads_images=True) == []

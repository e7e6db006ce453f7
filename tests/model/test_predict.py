"""Predictions as records and as lines, from packs and from memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.packs import Objects, Pack, PackMeta, write_pack
from cache.tables import read_posts
from model.predict import Run, pick_device
from schema.errors import DataError, PackError, RunError
from schema.records import Image, Post

POST = Post(
    "p1",
    "test",
    ("Ann", "Lee", "in", "Rome"),
    "Ann  Lee in Rome!",
    ((0, 3), (5, 8), (9, 11), (12, 16)),
    ("B-PER", "I-PER", "O", "B-LOC"),
    (Image("a/b.jpg", "d" * 64, 30, 20),),
)


@pytest.fixture(scope="module")
def run(run_folder: Path) -> Run:
    return Run.load(run_folder, "cpu")


def test_pack_and_memory_give_the_same(run: Run, dataset: tuple[Path, Path]) -> None:
    posts, pack = read_posts(dataset[0]).posts[:10], Pack(dataset[1])
    from_pack = run.predict(posts, pack)
    in_memory = run.predict(posts, [pack.read(post.id) for post in posts])
    assert from_pack == in_memory
    assert [one.post for one in from_pack] == posts
    found = [entity for one in from_pack for entity in one.entities]
    assert found
    assert all(0 < one.confidence <= 1 for one in found)


def test_grounded_boxes_are_those_of_overlapping_phrases(run: Run, dataset: tuple[Path, Path]) -> None:
    posts, pack = read_posts(dataset[0]).posts, Pack(dataset[1])
    checked = 0
    for one in run.predict(posts, pack):
        for entity in one.entities:
            span = entity.span
            expected = [r for r in one.objects if r.span and r.span.start < span.end and span.start < r.span.end]
            assert list(entity.grounded_boxes) == expected
            checked += 1
    assert checked > 10


def test_gold_labels_change_nothing_and_may_be_of_another_set(run: Run, dataset: tuple[Path, Path]) -> None:
    posts, pack = read_posts(dataset[0]).posts[:4], Pack(dataset[1])
    foreign = [replace(post, tags=("B-ANIMAL",) + ("O",) * (post.n_words - 1)) for post in posts]
    assert [one.tags for one in run.predict(foreign, pack)] == [one.tags for one in run.predict(posts, pack)]
    assert run.predict([], []) == []


def test_what_does_not_fit_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"this run needs objects \(found none\)"):
        run.predict([POST])
    with pytest.raises(DataError, match="each post needs a unique id and its objects"):
        run.predict([POST, POST], [Objects(np.zeros((0, 6), np.float32), ())] * 2)
    other = {"regions": {"identity": {"name": "another"}}}
    write_pack(tmp_path / "pack", PackMeta(6, "float32", 1, (), False, other), [])
    with pytest.raises(PackError, match="trained on region features with name synthetic-numbers"):
        run.predict([POST], Pack(tmp_path / "pack"))
    with pytest.raises(RunError, match="no such run"):
        Run.load(tmp_path / "nothing")


def test_pick_device() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type in ("cpu", "cuda")

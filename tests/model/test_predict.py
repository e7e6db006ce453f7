"""Predictions as records and as lines, from packs and from memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.packs import Objects, Pack, PackMeta, write_pack
from cache.tables import read_posts
from model.predict import FoundEntity, Prediction, Run, pick_device
from schema.errors import DataError, PackError, RunError
from schema.records import Box, Entity, Image, Post, Region, Span

POST = Post(
    "p1",
    "test",
    ("Ann", "Lee", "in", "Rome"),
    "Ann  Lee in Rome!",
    ((0, 3), (5, 8), (9, 11), (12, 16)),
    ("B-PER", "I-PER", "O", "B-LOC"),
    (Image("a/b.jpg", "d" * 64, 30, 20),),
)
WHOLE = Region("image", "", None, None, 0.0)
PHRASE = Region("phrase", "Ann Lee", Span(0, 2), Box(1, 2, 3, 4, 1), 0.5)


@pytest.fixture(scope="module")
def run(run_folder: Path) -> Run:
    return Run.load(run_folder, "cpu")


def test_a_line_by_hand() -> None:
    entities = (
        FoundEntity(Entity(Span(0, 2), "PER"), 0.9, (PHRASE,)),
        FoundEntity(Entity(Span(3, 4), "ORG"), 0.4),
    )
    line = Prediction(POST, ("B-PER", "I-PER", "O", "B-ORG"), entities, (WHOLE, PHRASE)).to_json()
    corners = {"x0": 1, "y0": 2, "x1": 3, "y1": 4}
    assert line == {
        "id": "p1", "post_id": "p1",
        "split": "test",
        "words": ["Ann", "Lee", "in", "Rome"],
        "text": "Ann  Lee in Rome!",
        "images": [{"name": "a/b.jpg", "digest": "d" * 64, "width": 30, "height": 20, "state": "ok"}],
        "gold": [{"start": 0, "end": 2, "type": "PER"}, {"start": 3, "end": 4, "type": "LOC"}],
        "entities": [
            {
                "start": 0,
                "end": 2,
                "type": "PER",
                "text": "Ann  Lee",
                "char_start": 0,
                "char_end": 8,
                "confidence": 0.9,
                "grounded_boxes": [
                    {
                        "image_index": 1,
                        **corners,
                        "score": 0.5,
                        "phrase": {"start": 0, "end": 2, "text": "Ann Lee"},
                    }
                ],
            },
            {
                "start": 3,
                "end": 4,
                "type": "ORG",
                "text": "Rome",
                "char_start": 12,
                "char_end": 16,
                "confidence": 0.4,
                "grounded_boxes": [],
            },
        ],
        "objects": [
            {
                "source": "image",
                "text": "",
                "start": None,
                "end": None,
                "image_index": None,
                "x0": None,
                "y0": None,
                "x1": None,
                "y1": None,
                "score": 0.0,
            },
            {"source": "phrase", "text": "Ann Lee", "start": 0, "end": 2, "image_index": 1, **corners, "score": 0.5},
        ],
        "synthetic": False,
    }
    assert Prediction(replace(POST, tags=None), ("O",) * 4, ()).to_json()["gold"] is None


def test_pack_and_memory_give_the_same(run: Run, dataset: tuple[Path, Path]) -> None:
    posts, pack = read_posts(dataset[0]).posts[:10], Pack.open(dataset[1])
    from_pack = run.predict_pack(posts, pack)
    in_memory = run.predict(posts, [pack.read(post.id) for post in posts])
    assert from_pack == in_memory
    assert [one.post for one in from_pack] == posts
    found = [entity for one in from_pack for entity in one.entities]
    assert found
    assert all(0 < one.confidence <= 1 for one in found)


def test_grounded_boxes_are_those_of_overlapping_phrases(run: Run, dataset: tuple[Path, Path]) -> None:
    posts, pack = read_posts(dataset[0]).posts, Pack.open(dataset[1])
    checked = 0
    for one in run.predict_pack(posts, pack):
        for entity in one.entities:
            span = entity.entity.span
            wanted = [r for r in one.objects if r.span and r.span.start < span.end and span.start < r.span.end]
            assert list(entity.grounded) == wanted
            checked += 1
    assert checked > 10


def test_gold_labels_change_nothing_and_may_be_of_another_set(run: Run, dataset: tuple[Path, Path]) -> None:
    posts, pack = read_posts(dataset[0]).posts[:4], Pack.open(dataset[1])
    foreign = [replace(post, tags=("B-ANIMAL",) + ("O",) * (post.n_words - 1)) for post in posts]
    assert [one.tags for one in run.predict_pack(foreign, pack)] == [one.tags for one in run.predict_pack(posts, pack)]
    assert run.predict([], []) == []


def test_what_does_not_fit_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"this run reads objects \(found none\)"):
        run.predict([POST])
    with pytest.raises(DataError, match="each post needs an id of its own and its objects"):
        run.predict([POST, POST], [Objects(np.zeros((0, 6), np.float32), ())] * 2)
    other = {"regions": {"identity": {"name": "another"}}}
    write_pack(tmp_path / "pack", PackMeta(6, "float32", 1, (), False, other), [])
    with pytest.raises(PackError, match="trained on region features with name synthetic-numbers"):
        run.predict_pack([POST], Pack.open(tmp_path / "pack"))
    with pytest.raises(RunError, match="no such run"):
        Run.load(tmp_path / "nothing")


def test_pick_device() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type in ("cpu", "cuda")

"""Examples and batches by hand; batches by length as properties; workers bring what one process brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cache.packs import Objects, Pack
from cache.tables import read_posts
from model.data import LengthBatches, PostDataset, collate, loader
from model.objects import FromMemory, FromPack
from model.words import Pieces, build_words
from schema.records import Box, Region, Span
from tests.model.tiny import LABELS, post, tiny_config

BOX = Box(0, 0, 2, 2)


@pytest.fixture(scope="module")
def pieces(encoder: Path) -> Pieces:
    return build_words(tiny_config(encoder)).featurizer


def small(pieces: Pieces, encoder: Path, **changes: object) -> PostDataset:
    long = post(0, "train", ["the", "left", "rex", "sees"], ["O", "B-PER", "I-PER", "B-LOC"])
    short = post(1, "train", ["boat"], ["O"])
    regions = (Region("image", "", None, BOX, 1.0), Region("phrase", "left rex", Span(1, 3), BOX, 0.5))
    objects = {
        long.id: Objects(np.float16([[1, 2], [3, 4]]), regions),
        short.id: Objects(np.float16([[5, 6]]), regions[:1]),
    }
    return PostDataset([long, short], FromMemory(objects), LABELS, pieces, tiny_config(encoder, **changes))


def test_a_batch_by_hand(pieces: Pieces, encoder: Path) -> None:
    dataset = small(pieces, encoder)
    assert dataset.n_cells() == [8, 4]
    batch = collate([dataset[0], dataset[1]], pieces)
    assert batch.rows == (0, 1)
    assert batch.text_mask.tolist() == [[True] * 6, [True] * 3 + [False] * 3]
    assert batch.objects.tolist() == [[[1, 2], [3, 4]], [[5, 6], [0, 0]]]
    assert batch.objects.dtype == torch.float16
    assert batch.spans.tolist() == [[[1, 4], [2, 3]], [[1, 1], [0, 0]]]
    assert batch.object_mask.tolist() == [[True, True], [True, False]]
    tags, boundaries = batch.gold
    assert tags.tolist() == [[0, 1, 2, 3], [0, 0, 0, 0]]  # O, B-PER, I-PER, B-LOC
    assert boundaries.tolist() == [[0, 1, 2, 1], [0, 0, 0, 0]]  # O, B, E, and B for one word
    assert batch.inputs["pieces"].shape[0] == 2


def test_unlabelled_posts_make_a_batch_without_tags(pieces: Pieces, encoder: Path) -> None:
    dataset = small(pieces, encoder, control="empty")
    dataset.posts = [post(0, "predict", ["the", "left", "rex", "sees"], None), dataset.posts[1]]
    batch = collate([dataset[0], dataset[1]], pieces)
    assert batch.tags is None
    assert batch.objects.tolist() == [[[0, 0]], [[0, 0]]]


@given(
    st.lists(st.integers(3, 60), min_size=1, max_size=80), st.integers(1, 9), st.integers(10, 300), st.integers(0, 99)
)
def test_batches_hold_every_post_once_within_the_caps(cells: list[int], batch: int, cap: int, seed: int) -> None:
    for one in (LengthBatches(cells, batch, cap, seed), LengthBatches(cells, batch, cap)):
        found = list(one)
        assert sorted(row for rows in found for row in rows) == list(range(len(cells)))
        assert all(len(rows) <= batch for rows in found)
        assert all(len(rows) == 1 or len(rows) * max(cells[row] for row in rows) <= cap for rows in found)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int, skip: int = 0) -> list[list[int]]:
        batches = LengthBatches([3 + row % 7 for row in range(100)], 8, 1000, seed)
        batches.epoch, batches.skip = epoch, skip
        return list(batches)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2)[3:] == order(1, 2, skip=3)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_posts_of_a_batch_have_like_lengths() -> None:
    cells = [3 + (row * 37) % 50 for row in range(640)]
    padded = sum(len(rows) * max(cells[row] for row in rows) for rows in LengthBatches(cells, 16, 10_000, 0))
    assert padded < 1.1 * sum(cells)


def test_workers_bring_the_same_batches(dataset: tuple[Path, Path], encoder: Path, pieces: Pieces) -> None:
    posts = [one for one in read_posts(dataset[0]).posts if one.split == "dev"]
    examples = PostDataset(posts, FromPack(Pack(dataset[1])), LABELS, pieces, tiny_config(encoder))
    batches = LengthBatches(examples.n_cells(), 4, 1000, 0)
    one, two = (list(loader(examples, batches, pieces, torch.device("cpu"), n)) for n in (0, 2))
    assert len(one) == len(two) == 2
    for a, b in zip(one, two, strict=True):
        assert a.rows == b.rows
        assert torch.equal(a.objects, b.objects)
        assert torch.equal(a.inputs["pieces"], b.inputs["pieces"])

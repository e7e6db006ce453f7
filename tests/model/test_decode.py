"""Decoding in batches gives each post what it gets alone; confidences equal a sum over all tag paths."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from model.approaches import approach
from model.data import PostDataset, collate
from model.objects import FromMemory
from model.predict import Decoded, autocast, decode
from model.tagger import ModelSpec, Tagger
from schema.labels import entities
from tests.model.tiny import DIM, LABELS, linked, tiny_config

CPU = torch.device("cpu")


def make(encoder: Path, n_posts: int, **changes: object) -> tuple[Tagger, PostDataset]:
    config = tiny_config(encoder, **changes)
    torch.manual_seed(1)
    tagger = approach("fmit").build(ModelSpec(config, LABELS, DIM))
    with torch.no_grad():  # random weights that tag something
        tagger.tag.weight.mul_(8)  # type: ignore[operator,union-attr]
        tagger.crf.transitions.normal_()
    posts, objects = linked(n_posts, 9)
    return tagger, PostDataset(posts, FromMemory(objects), LABELS, tagger.featurizer, config)


def test_batches_change_nothing(encoder: Path) -> None:
    tagger, dataset = make(encoder, 10)
    together = decode(tagger, dataset, tiny_config(encoder, batch=8), CPU, confidences=True)
    alone = decode(tagger, dataset, tiny_config(encoder, batch=1), CPU, confidences=True)
    assert [one.tags for one in together] == [one.tags for one in alone]
    for a, b in zip(together, alone, strict=True):
        assert a.confidences == pytest.approx(b.confidences, abs=1e-4)
    assert any(one.entities for one in together)
    assert all(one.entities == tuple(entities(one.tags, lenient=True)) for one in together)  # no orphan I-


@torch.no_grad()
def test_confidence_is_the_share_of_paths_with_the_entity(encoder: Path) -> None:
    tagger, dataset = make(encoder, 1)  # one post of 4 words
    found: Decoded = decode(tagger, dataset, tiny_config(encoder), CPU, confidences=True)[0]
    emissions = tagger.eval().emissions(collate([dataset[0]], tagger.featurizer))[0].double()
    crf, names = tagger.crf, LABELS.tags
    mass, having = torch.zeros((), dtype=torch.float64), dict.fromkeys(found.entities, 0.0)
    for path in itertools.product(range(len(names)), repeat=4):
        pairs = sum(float(crf.transitions[a, b]) for a, b in itertools.pairwise(path))
        unary = sum(float(emissions[n, tag]) for n, tag in enumerate(path))
        weight = torch.tensor(
            unary + pairs + float(crf.start_transitions[path[0]] + crf.end_transitions[path[-1]])
        ).exp()
        mass += weight
        here = entities([names[tag] for tag in path])
        for entity in having:
            having[entity] += float(weight) * (entity in here)
    assert found.entities
    assert list(found.confidences) == pytest.approx([value / float(mass) for value in having.values()], abs=1e-5)


def test_words_without_a_vector_are_no_entity(encoder: Path) -> None:
    tagger, dataset = make(encoder, 2, max_pieces=4, overflow="truncate")
    found = decode(tagger, dataset, tiny_config(encoder), CPU)
    assert [len(one.tags) for one in found] == [4, 7]
    assert set(found[1].tags[2:]) == {"O"}


def test_training_goes_on_as_it_was(encoder: Path) -> None:
    tagger, dataset = make(encoder, 2)
    seen: list[tuple[int, int]] = []
    decode(tagger.train(), dataset, tiny_config(encoder), CPU, progress=lambda done, total: seen.append((done, total)))
    assert tagger.training
    assert seen == [(2, 2)]


@pytest.mark.parametrize(("amp", "dtype"), [("off", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_autocast(amp: str, dtype: torch.dtype) -> None:
    with autocast(CPU, amp):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_constraints_hold_against_the_scores(encoder: Path) -> None:
    tagger, dataset = make(encoder, 4)
    inside = [LABELS.tag_ids[f"I-{name}"] for name in LABELS.types]
    with torch.no_grad():
        tagger.crf.start_transitions[inside] = 50.0  # the best free path opens with an orphan
        tagger.crf.transitions[0, inside] = 50.0
    for one in decode(tagger, dataset, tiny_config(encoder), CPU):
        assert entities(one.tags) == entities(one.tags, lenient=True)

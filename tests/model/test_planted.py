"""Planted: only the span link tells which name has which type, so only a model with relative positions can know."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.approaches import approach
from model.data import PostDataset
from model.distributed import ProcessGroup
from model.evaluate import score
from model.objects import FromMemory
from model.predict import decode
from model.tagger import ModelSpec
from model.trainer import Trainer
from tests.model.tiny import DIM, LABELS, linked, tiny_config

CPU = torch.device("cpu")


def f1_of(encoder: Path, name: str, strength: float) -> float:
    """Strict F1 on 200 unseen posts of two names, after training on 128."""
    config = approach(name).configure(tiny_config(encoder, epochs=5, patience=5, batch=16))
    torch.manual_seed(0)
    tagger = approach(name).build(ModelSpec(config, LABELS, DIM))
    made = [linked(n, seed, "train", strength, always_two=True) for n, seed in ((128, 21), (40, 22), (200, 23))]
    splits = [PostDataset(posts, FromMemory(objects), LABELS, tagger.featurizer, config) for posts, objects in made]
    list(Trainer(tagger, splits[0], splits[1], config, 0, ProcessGroup(CPU)).epochs())
    found = decode(tagger, splits[2], config, CPU)
    return score([post.tags or () for post in made[2][0]], [one.tags for one in found], LABELS.types).micro.f1


def test_only_the_span_link_tells(encoder: Path) -> None:
    full = f1_of(encoder, "fmit", 4.0)
    assert full >= 0.95
    assert f1_of(encoder, "fmit-no-rel", 4.0) <= full - 0.25
    assert f1_of(encoder, "fmit-shuffled", 4.0) <= full - 0.25


def test_without_a_signal_nothing_is_gained(encoder: Path) -> None:
    text = f1_of(encoder, "bert-crf", 0.0)
    assert f1_of(encoder, "fmit", 0.0) <= text + 0.12  # three standard deviations of 200 coin flips
    assert text == pytest.approx(0.5, abs=0.12)

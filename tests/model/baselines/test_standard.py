"""Standardised features against numpy, over all that training posts hold; a run learns them once, before it starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.baselines.layers import Standardize
from tests.model.test_fit import make


def test_mean_and_deviation_of_all_posts() -> None:
    generator = np.random.default_rng(0)
    posts = [(5 + 2 * generator.normal(size=(n, 3))).astype(np.float16) for n in (3, 0, 1, 6)]
    for post in posts:
        post[:, 2] = 7.0  # never varies
    standard = Standardize(3)
    standard.learn(iter(posts))
    seen = np.concatenate(posts).astype(np.float64)
    spread = np.where(seen.std(0) > 1e-6, seen.std(0), 1.0)
    features = torch.randn(2, 4, 3)
    expected = (features.numpy() - seen.mean(0)) / spread
    np.testing.assert_allclose(standard(features).numpy(), expected, atol=1e-5)
    before = {name: value.clone() for name, value in standard.state_dict().items()}
    assert set(before) == {"count", "total", "squares"}
    standard.train()(features)
    standard.learn(iter(posts))
    assert all(torch.equal(value, before[name]) for name, value in standard.state_dict().items()), "sums are replaced"


def test_nothing_learned_yet() -> None:
    features = torch.randn(3, 3, 3)
    assert torch.equal(Standardize(3)(features), features)
    assert Standardize(3)(features[:, :0]).shape == (3, 0, 3)


@pytest.mark.parametrize(("name", "place"), [("vg-att", "standard"), ("ada-co-att", "co_attention.standard")])
def test_a_run_learns_from_all_training_posts(encoder: Path, name: str, place: str) -> None:
    trainer = make(encoder, name=name, epochs=1, batch=7)
    list(trainer.epochs())
    seen = np.concatenate([trainer.train[row].features for row in range(20)]).astype(np.float64)
    sums = trainer.tagger.get_submodule(place).state_dict()
    assert len(seen) == sums["count"] > 0
    np.testing.assert_allclose(sums["total"].numpy(), seen.sum(0), rtol=1e-9)
    np.testing.assert_allclose(sums["squares"].numpy(), (seen**2).sum(0), rtol=1e-9)

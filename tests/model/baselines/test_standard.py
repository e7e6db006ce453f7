"""Standardised features against numpy, over all that training has shown; padding and evaluation change nothing."""

from __future__ import annotations

import numpy as np
import torch

from model.baselines.standard import Standard

MASK = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])


def test_mean_and_deviation_of_all_that_was_shown() -> None:
    torch.manual_seed(0)
    standard, shown = Standard(3), []
    for _ in range(3):
        features = 5 + 2 * torch.randn(3, 3, 3)
        features[..., 2] = 7.0  # never varies
        found = standard(features.masked_fill(~MASK[..., None], 1e4), MASK)
        shown.append(features[MASK].numpy().astype(np.float64))
        seen = np.concatenate(shown)
        spread = np.where(seen.std(0) > 1e-6, seen.std(0), 1.0)
        expected = (features[MASK].numpy() - seen.mean(0)) / spread
        np.testing.assert_allclose(found[MASK].numpy(), expected, atol=1e-5)
    before = {name: value.clone() for name, value in standard.state_dict().items()}
    standard.eval()(features, MASK)
    assert all(torch.equal(value, before[name]) for name, value in standard.state_dict().items())
    assert set(before) == {"count", "total", "squares"}


def test_nothing_shown_yet() -> None:
    features = torch.randn(3, 3, 3)
    assert torch.equal(Standard(3).eval()(features, MASK), features)
    assert torch.equal(Standard(3)(features, torch.zeros_like(MASK)), features)
    assert Standard(3)(features[:, :0], MASK[:, :0]).shape == (3, 0, 3)

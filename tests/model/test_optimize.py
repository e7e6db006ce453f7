"""Rates by hand, parameter groups, and a deterministic mode that ends."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from model.approaches import approach
from model.tagger import ModelSpec
from model.trainer import build_optimizer, deterministic_algorithms, lr_multiplier
from tests.model.tiny import DIM, LABELS, tiny_config


@pytest.mark.parametrize(
    ("changes", "shares"),
    [
        ({}, [1.0, 1.0, 1.0, 1.0]),
        ({"schedule": "linear"}, [0.9, 0.5, 0.25, 0.0]),
        ({"warmup": 0.2, "schedule": "linear"}, [0.5, 0.625, 0.3125, 0.0]),
        ({"warmup": 1.0}, [0.1, 0.5, 0.75, 1.0]),
        ({"warmup": 0.5}, [0.2, 1.0, 1.0, 1.0]),
        ({"schedule": "cosine"}, [0.5 + 0.5 * math.cos(0.1 * math.pi), 0.5, 0.5 - math.sqrt(0.125), 0.0]),
    ],
)
def test_shares_of_the_rate(changes: dict[str, object], shares: list[float]) -> None:
    config = tiny_config(Path("none"), **changes)
    assert [lr_multiplier(config, done) for done in (0.1, 0.5, 0.75, 1.0)] == pytest.approx(shares, abs=1e-12)


def test_three_rates_and_decay_of_matrices_only(encoder: Path) -> None:
    config = tiny_config(encoder, lr_encoder=1e-5, lr_head=1e-3, lr_crf=1e-2, weight_decay=0.1)
    tagger = approach("fmit").build(ModelSpec(config, LABELS, DIM))
    optimizer = build_optimizer(tagger, config)
    names = {id(parameter): name for name, parameter in tagger.named_parameters()}
    seen: set[str] = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert group["rate"] == (1e-5 if name.startswith("words.") else 1e-2 if "crf." in name else 1e-3)
            assert group["weight_decay"] == (0.1 if parameter.dim() > 1 else 0.0)
            seen.add(name)
    assert seen == set(names.values())


def test_without_decay_it_is_adam() -> None:
    class One(torch.nn.Module):
        crop_net = None

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([[1.0, -2.0]]))

        def pretrained(self) -> list[torch.nn.Parameter]:
            return []

    ours, theirs = One(), torch.nn.Parameter(torch.tensor([[1.0, -2.0]]))
    optimizers = build_optimizer(ours, tiny_config(Path("none"), lr_head=0.1)), torch.optim.Adam([theirs], lr=0.1)  # type: ignore[arg-type]
    for step in range(5):
        for optimizer, weight in zip(optimizers, (ours.weight, theirs), strict=True):
            weight.grad = weight.detach() ** 2 + step
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs)


def test_determinism_ends_with_its_context() -> None:
    with deterministic_algorithms(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic_algorithms(False):
        assert not torch.are_deterministic_algorithms_enabled()

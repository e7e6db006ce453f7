"""Quickened layers are the same layers: same names, same numbers, same gradients."""

from __future__ import annotations

import copy

import torch
from torch import nn

from model.speed import FastLinear, quicken


def test_same_layers_same_numbers() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 4, bias=False)))
    fast = copy.deepcopy(plain)
    quicken(fast)
    assert isinstance(fast[0], FastLinear)
    assert list(fast.state_dict()) == list(plain.state_dict())
    inputs = torch.randn(3, 7, 6)
    for model in (plain, fast):
        model(inputs).square().sum().backward()
    torch.testing.assert_close(fast(inputs), plain(inputs))
    for a, b in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_layers_of_another_kind_are_left_alone() -> None:
    class Special(nn.Linear):
        pass

    model = nn.Sequential(Special(2, 2))
    quicken(model)
    assert type(model[0]) is Special

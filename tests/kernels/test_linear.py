"""Our layers are torch's: same names, same numbers, same gradients, whatever shape comes in."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import Linear, linear, use_onednn


@pytest.mark.parametrize(("shape", "n_out"), [((2, 3, 5), 4), ((7, 16), 1), ((1, 1, 8), 3), ((6,), 2), ((0, 3, 5), 4)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...], n_out: int, with_bias: bool) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(shape), torch.randn(n_out, shape[-1]), *([torch.randn(n_out)] if with_bias else [])]
    toward = torch.randn(*shape[:-1], n_out)
    found: list[list[Tensor]] = []
    for function in (linear, F.linear):
        leaves = [part.clone().requires_grad_() for part in parts]
        y = function(*leaves)
        found.append([y, *torch.autograd.grad((y * toward).sum(), leaves)])
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs)


def test_a_layer_gives_the_same_bits_with_gradients_and_without() -> None:
    layer, x = Linear(6, 4), torch.randn(3, 2, 6)
    with torch.inference_mode():
        bare = layer(x)
    assert torch.equal(layer(x), bare)
    torch.testing.assert_close(bare, F.linear(x, layer.weight, layer.bias))


def test_layers_with_onednn_keep_names_and_numbers() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 4, bias=False)))
    fast = copy.deepcopy(plain)
    use_onednn(fast)
    assert isinstance(fast[0], Linear)
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
    use_onednn(model)
    assert type(model[0]) is Special

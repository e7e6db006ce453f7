"""Products in oneDNN against torch's own, gradients included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pipeline.phrases.products import HAS_ONEDNN, Linear, product

SHAPES = [((2, 3, 5), 4), ((7, 16), 1), ((1, 1, 8), 3)]


@pytest.mark.parametrize(("shape", "n_out"), SHAPES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...], n_out: int, with_bias: bool) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(shape), torch.randn(n_out, shape[-1]), torch.randn(n_out) if with_bias else None
    grads = []
    for function in (product, F.linear):
        leaves = [part.clone().requires_grad_() for part in (x, weight, bias) if part is not None]
        y = function(leaves[0], leaves[1], leaves[2] if with_bias else None)
        torch.manual_seed(1)
        (y * torch.randn_like(y)).sum().backward()
        grads.append([y, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_without_a_gradient_the_same_numbers() -> None:
    layer = Linear(6, 4)
    x = torch.randn(3, 2, 6)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.skipif(not HAS_ONEDNN, reason="this torch exposes no oneDNN product")
def test_the_library_can_be_switched_off() -> None:
    x, weight = torch.randn(3, 4), torch.randn(5, 4)
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(product(x, weight, None), F.linear(x, weight))


def test_doubles_go_torchs_own_way() -> None:
    x, weight = torch.randn(3, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    assert torch.equal(product(x, weight, None), F.linear(x, weight))

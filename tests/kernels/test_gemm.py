"""Products of both libraries against float64, with the layouts that a backward pass meets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import kernels

pytestmark = pytest.mark.filterwarnings("ignore:TF32")


@pytest.fixture(params=["oneDNN", "BLAS"])
def library(request: pytest.FixtureRequest) -> object:
    with torch.backends.mkldnn.flags(enabled=request.param == "oneDNN"):
        yield request.param


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_linear_and_its_gradients(library: str, n: int, bias: bool, relu: bool) -> None:
    torch.manual_seed(0)
    leaves = [torch.randn(n, 7, requires_grad=True), torch.randn(3, 7, requires_grad=True)]
    leaves += [torch.randn(3, requires_grad=True)] if bias else []
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    found = kernels.linear_2d(leaves[0], leaves[1], leaves[2] if bias else None, relu)
    expected = exact[0] @ exact[1].t() + (exact[2] if bias else 0)
    expected = expected.relu() if relu else expected
    near(found, expected)
    weights = torch.randn(n, 3)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), leaves),
        torch.autograd.grad((expected * weights).sum(), exact),
        strict=True,
    ):
        near(one, other)


def test_odd_layouts(library: str) -> None:
    torch.manual_seed(0)
    wide = torch.randn(6, 20)
    cases = {
        "turned": (torch.randn(8, 6).t(), torch.randn(8, 5).t()),
        "gaps between rows": (wide[:, 3:11], torch.randn(5, 20)[:, 2:10]),
        "one value for all": (torch.ones(()).expand(6, 8), torch.randn(5, 8)),
        "every other entry": (wide[:, ::2], torch.randn(5, 20)[:, ::2]),
        "one row, one column": (torch.randn(1, 1), torch.randn(1, 1)),
    }
    for name, (x, weight) in cases.items():
        torch.testing.assert_close(kernels.linear_2d(x, weight), x @ weight.t(), atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_only_wanted_gradients_are_made(library: str, needs: tuple[bool, bool]) -> None:
    x, weight = torch.randn(4, 3).requires_grad_(needs[0]), torch.randn(2, 3).requires_grad_(needs[1])
    kernels.linear_2d(x, weight).sum().backward()
    assert (x.grad is not None, weight.grad is not None) == needs


def test_per_head(library: str) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(5, 4 * 3), torch.randn(4, 6, 3)
    expected = torch.einsum("nhi,hoi->nho", x.view(5, 4, 3).double(), weight.double())
    near(kernels.per_head(x, weight), expected)
    near(kernels.per_head(x, weight.transpose(1, 2).contiguous().transpose(1, 2)), expected)
    assert kernels.per_head(x[:0], weight).shape == (0, 4, 6)


def test_which_library() -> None:
    x = torch.zeros(2, 2)
    if not kernels.HAS_ONEDNN:
        pytest.skip("this torch was built without oneDNN")
    assert kernels.uses_onednn(x)
    assert not kernels.uses_onednn(x.double())
    with torch.backends.mkldnn.flags(enabled=False):
        assert not kernels.uses_onednn(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not kernels.uses_onednn(x)
        assert kernels.linear_2d(x, x).dtype == torch.bfloat16

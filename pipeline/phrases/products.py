"""Products of the embedded parser's network, by the faster of torch's two CPU matrix libraries.

torch multiplies fp32 matrices by its BLAS (MKL); the oneDNN that it carries too is up to twice as fast on CPUs with
AVX-512, but has no gradient in torch, so ours is written out. The choice depends on the machine alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias: x [..., in], weight [out, in], bias [out] or None -> [..., out]; x is not empty."""
    has = HAS_ONEDNN and torch.backends.mkldnn.enabled and not torch.compiler.is_compiling()
    if x.device.type != "cpu" or x.dtype != torch.float32 or not has:
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    y = _Product.apply(rows, weight, bias) if torch.is_grad_enabled() else _product(rows, weight, bias)
    return y.view(*x.shape[:-1], -1)


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """y = x W^T + b, with dx = dy W, dW = dy^T x, db = sum of dy."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _product(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad,), (rows, weight) = grads, ctx.saved_tensors
        grad = grad.contiguous()
        need_rows, need_weight, need_bias = ctx.needs_input_grad
        return (
            _product(grad, weight.t().contiguous()) if need_rows else None,
            _product(grad.t().contiguous(), rows.t().contiguous()) if need_weight else None,
            grad.sum(0) if need_bias else None,
        )


class Linear(nn.Linear):
    """nn.Linear by `product`."""

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight, self.bias)

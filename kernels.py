"""Matrix products by the faster of torch's two CPU libraries, for parser and model.

On CPUs torch multiplies fp32 matrices with its BLAS (MKL). oneDNN is twice as fast on AMD cores with AVX-512
(`bench/interaction.py` measures both), so fp32 products use it where torch exposes it. Other devices and dtypes,
autocast and compiled code use torch's default. The choice never depends on a timing, so results are reproducible.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AVX512-BF16, AMX); without, float32 is faster."""
    return any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile"))


def usable_dtype(name: str, device: str) -> str:
    """A dtype's name; with a warning float32 instead of bfloat16 on a processor without it."""
    if name != "bfloat16" or not device.startswith("cpu") or has_bf16():
        return name
    warnings.warn("this processor has no bfloat16 (AVX512-BF16 or AMX): computing in float32", stacklevel=2)
    return "float32"


def uses_onednn(x: Tensor) -> bool:
    """Whether products of this tensor run in oneDNN."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or not HAS_ONEDNN or x.numel() == 0:
        return False
    return (
        bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def may_read_values(x: Tensor) -> bool:
    """Whether code may branch on values: a GPU would wait for them, and a compiled graph would break."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def linear_2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """`x @ weight.T + bias`, then ReLU if `relu`: x [N, in], weight [out, in], bias [out] -> [N, out]."""
    if not uses_onednn(x):
        y = F.linear(x, weight, bias)
        return torch.relu(y) if relu else y
    parts = (x, weight) if bias is None else (x, weight, bias)
    if torch.is_grad_enabled() and any(part.requires_grad for part in parts):
        return _Linear.apply(x, weight, bias, relu)
    return _product(x, weight, bias, relu)


def per_head(x: Tensor, weight: Tensor) -> Tensor:
    """One product per head: x [N, H * in], weight [H, out, in] -> [N, H, out]; no gradient."""
    n, (heads, width, own) = x.shape[0], weight.shape
    if not uses_onednn(x):
        return torch.bmm(x.reshape(n, heads, own).transpose(0, 1), weight.transpose(1, 2)).transpose(0, 1)
    # A grouped 1 x 1 convolution over a row of n pixels, channels last: reads and writes rows as they lie.
    pixels = x.contiguous().view(1, n, 1, -1).permute(0, 3, 1, 2)
    kernel = weight.reshape(heads * width, own, 1, 1)
    y = torch.mkldnn_convolution(pixels, kernel, None, (0, 0), (1, 1), (1, 1), heads)
    return y.permute(0, 2, 3, 1).reshape(n, heads, width)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """`linear` in oneDNN. A weight with gaps between rows would fall to its slow reference code, so it is packed."""
    weight = weight if weight.is_contiguous() or weight.t().is_contiguous() else weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")


class _Linear(torch.autograd.Function):
    """oneDNN's product has no gradient in torch; both of its gradients are products again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        y = _product(x, weight, bias, relu)
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight, y = ctx.saved_tensors
        if y is not None:
            grad = torch.ops.aten.threshold_backward(grad, y, 0)
        need_x, need_weight, need_bias, _ = ctx.needs_input_grad
        return (
            _product(grad, weight.t()) if need_x else None,
            _product(grad.t(), x.t()) if need_weight else None,
            grad.sum(0) if need_bias else None,
            None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """`x @ weight.T + bias`, then ReLU if `relu`: x [..., in], weight [out, in], bias [out] -> [..., out]."""
    rows = linear_2d(x.reshape(-1, x.shape[-1]), weight, bias, relu)
    return rows.view(*x.shape[:-1], weight.shape[0])


class Linear(nn.Linear):
    """torch's layer computed by `linear`: a training step of BERT is 1.5 times faster on a CPU (measured)."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def use_onednn(model: nn.Module) -> None:
    """Make every plain linear layer of a model compute as `Linear` does; names and weights are unchanged."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear

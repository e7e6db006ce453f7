"""A convolution with its batch norm and activation, and the fused form of it for CPUs with oneDNN.

N images, H and W pixels of a map.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "relu6", "leaky_relu"]
LEAKY_SLOPE = 0.1
NORM_EPS = 1e-3  # EfficientNet's
ONEDNN: dict[Activation, tuple[str, list[float]]] = {  # name and scalars of oneDNN's operation after a convolution
    "none": ("none", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
    "leaky_relu": ("leaky_relu", [LEAKY_SLOPE]),
}


class ConvLayer(nn.Module):
    """Convolution, batch norm (or a bias) and activation.

    `same_padding`: TensorFlow's "SAME", which pads more at the right and bottom where the stride is 2; otherwise
    `kernel // 2` on every side.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        activation: Activation = "none",
        norm: bool = True,
        same_padding: bool = False,
    ) -> None:
        super().__init__()
        self._pads = same_padding and stride > 1
        padding = 0 if self._pads else kernel // 2
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, padding, groups=groups, bias=not norm)
        self.norm: nn.Module = nn.BatchNorm2d(n_out, eps=NORM_EPS) if norm else nn.Identity()
        self._activation = activation
        self._packed: dict[torch.Size, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_in, H, W] -> [N, n_out, H / stride, W / stride], rounded up."""
        if self._pads:
            x = _pad_same(x, self.conv.kernel_size[0], self.conv.stride[0])
        if self._packed is not None:
            return self._fused(x)
        x = self.norm(self.conv(x))
        if self._activation == "relu6":
            return F.relu6(x)
        return F.leaky_relu(x, LEAKY_SLOPE) if self._activation == "leaky_relu" else x

    def fold_norm(self) -> None:
        """Make the batch norm part of the convolution; for inference only."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv, self.norm = fold(self.conv, self.norm), nn.Identity()

    def use_onednn(self) -> None:
        """Compute convolution and activation in one pass; weights are packed at the first batch of each shape."""
        self._packed = {}

    def _fused(self, x: Tensor) -> Tensor:
        assert self._packed is not None
        conv = self.conv
        shape = (conv.padding, conv.stride, conv.dilation, conv.groups)
        if x.shape not in self._packed:
            reorder = torch.ops.mkldnn._reorder_convolution_weight
            self._packed[x.shape] = reorder(conv.weight.detach(), *shape, list(x.shape))
        name, scalars = ONEDNN[self._activation]
        weight = self._packed[x.shape]
        return torch.ops.mkldnn._convolution_pointwise(x, weight, conv.bias, *shape, name, scalars, "")


def optimize(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The inference form of a network of `ConvLayer`s: batch norm folded, channels last, oneDNN's fused convolutions
    where they exist. Changes `network` and returns it.
    """
    layers = [module for module in network.modules() if isinstance(module, ConvLayer)]
    for layer in layers:
        layer.fold_norm()
    network = network.eval().requires_grad_(False).to(device, dtype).to(memory_format=torch.channels_last)
    if device.type == "cpu" and dtype == torch.float32 and can_fuse():
        for layer in layers:
            layer.use_onednn()
    return network


def can_fuse() -> bool:
    """Whether this build of torch has oneDNN's fused convolutions; they are what its own compiler calls."""
    operators = torch.ops.mkldnn
    return torch.backends.mkldnn.is_available() and all(
        hasattr(operators, name)
        for name in ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")
    )


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """y = (conv(x) - mean) / sqrt(var + eps) * weight + bias as one convolution with a bias."""
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)  # type: ignore[union-attr]
    shift = norm.bias.double() - norm.running_mean.double() * scale  # type: ignore[union-attr]
    with torch.device("meta"):
        folded = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
        )
    weight = conv.weight.double() * scale[:, None, None, None]
    folded.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    folded.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
    return folded


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    height, width = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))

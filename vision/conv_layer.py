"""Convolutions for inference: batch norm folded in, and on CPUs with oneDNN the activation in the same pass.

N images, H and W pixels of a map.
"""

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels

Activation = Literal["none", "relu6", "leaky_relu"]
LEAKY_SLOPE = 0.1
NORM_EPS = 1e-3  # EfficientNet's
ONEDNN: dict[Activation, tuple[str, list[float]]] = {  # name and scalars of oneDNN's operation after a convolution
    "none": ("none", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
    "leaky_relu": ("leaky_relu", [LEAKY_SLOPE]),
}


class FusedConv:
    """A convolution and what follows it in one pass of oneDNN, channels-last; weights are packed once per shape."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self._conv, self._settings = conv, (conv.padding, conv.stride, conv.dilation, conv.groups)
        self._packed: dict[torch.Size, Tensor] = {}

    def __call__(self, x: Tensor, operation: str = "none", scalars: list[float] | None = None) -> Tensor:
        """The convolution of `x`, then an operation by its name in oneDNN."""
        settings = self._weight(x), self._conv.bias, *self._settings
        return torch.ops.mkldnn._convolution_pointwise(x, *settings, operation, scalars or [], "")

    def add_relu(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """relu(conv(x) + shortcut), written over `shortcut`."""
        settings = self._weight(x), self._conv.bias, *self._settings
        operator = torch.ops.mkldnn._convolution_pointwise_.binary
        return operator(shortcut, x, *settings, "add", 1.0, "relu", [], None)

    def _weight(self, x: Tensor) -> Tensor:
        if x.shape not in self._packed:
            reorder = torch.ops.mkldnn._reorder_convolution_weight
            self._packed[x.shape] = reorder(self._conv.weight.detach(), *self._settings, list(x.shape))
        return self._packed[x.shape]


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
        self._fused: FusedConv | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_in, H, W] -> [N, n_out, H / stride, W / stride], rounded up."""
        if self._pads:
            kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
            height, width = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        if self._fused:
            return self._fused(x, *ONEDNN[self._activation])
        x = self.norm(self.conv(x))
        if self._activation == "relu6":
            return F.relu6(x)
        return F.leaky_relu(x, LEAKY_SLOPE) if self._activation == "leaky_relu" else x

    def fold_norm(self) -> None:
        """Make the batch norm part of the convolution; for inference only."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv, self.norm = fold(self.conv, self.norm), nn.Identity()

    def rotate(self) -> None:
        """Rotate the kernel by 180 degrees, for maps that are rotated too: their "SAME" padding is `kernel // 2`."""
        self.conv.weight.data = self.conv.weight.data.flip((2, 3))
        self.conv.padding, self._pads = tuple(side // 2 for side in self.conv.kernel_size), False

    def use_onednn(self) -> None:
        """Compute convolution and activation in one pass."""
        self._fused = FusedConv(self.conv)


def optimize(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The inference form of a network of `ConvLayer`s: batch norm folded, channels last, oneDNN's fused convolutions
    where they exist. Changes `network` and returns it.
    """
    layers = [module for module in network.modules() if isinstance(module, ConvLayer)]
    for layer in layers:
        layer.fold_norm()
    network = network.eval().requires_grad_(False).to(device, dtype).to(memory_format=torch.channels_last)
    if can_fuse(device, dtype):
        for layer in layers:
            layer.use_onednn()
    return network


def can_fuse(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN's fused convolutions, which torch's own compiler calls, exist here for a device and dtype."""
    names = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")
    exist = torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)
    fast = dtype == torch.float32 or (dtype == torch.bfloat16 and kernels.has_bf16())
    return exist and fast and device.type == "cpu"


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """y = (conv(x) - mean) / sqrt(var + eps) * weight + bias as one convolution with a bias, computed in float64."""
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)  # type: ignore[union-attr]
    shift = norm.bias.double() - norm.running_mean.double() * scale  # type: ignore[union-attr]
    folded = copy.copy(conv)
    folded._parameters = {
        "weight": nn.Parameter((conv.weight.double() * scale[:, None, None, None]).to(conv.weight.dtype), False),
        "bias": nn.Parameter(shift.to(conv.weight.dtype), False),
    }
    return folded

"""Region features: EfficientNet-Lite2, and torchvision's ResNets from weights files in its format.

N crops, C side of a crop in pixels, D floats of a feature, R side of the last convolution's map.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import safetensors.torch
import torch
import torchvision.models
from torch import Tensor, nn
from torchvision.models import ResNet

from schema.errors import ConfigError, WeightsError
from vision import efficientnet, images
from vision.conv_layer import optimize
from vision.crops import Transform
from vision.fused_resnet import fastest, fold_batch_norm
from vision.torch_files import load_tensors

Dtype = Literal["float32", "bfloat16", "float16"]
Variant = Literal["v1", "v2"]

VERSION = "1"  # of the way from crop to feature; a test pins rows of it
DIM = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048}  # floats a feature
WITHOUT_V2 = ("resnet18", "resnet34")
CROP_PX = 224  # torchvision's presets for both variants
RESIZE_PX = {"v1": 256, "v2": 232}  # torchvision's presets: IMAGENET1K_V1 and IMAGENET1K_V2


class FeatureNet:
    """A frozen network that turns crops into features; `load_maps` reads its weights, for the first crop.

    `dim`: floats of a feature; `identity`: all that its numbers depend on, and nothing else; `transform`: how a crop
    becomes its input. A row's last bits depend on the batch's shape (not on what
    else is in the batch), so rows that are stored are computed in one shape.
    """

    def __init__(
        self,
        load_maps: Callable[[], Callable[[Tensor], Tensor]],
        transform: Transform,
        dim: int,
        identity: dict[str, str],
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._load_maps, self._dtype = functools.cache(load_maps), dtype
        self.transform, self.dim, self.identity, self.device = transform, dim, identity, device

    def load(self) -> Self:
        """Read the weights now; raises WeightsError where the file is not of this network."""
        self._load_maps()
        return self

    def forward(self, crops: Tensor) -> Tensor:
        """uint8 [N, 3, C, C] of any device -> float32 [N, D] on the network's: the last maps' means."""
        return self._last(crops).mean((2, 3))

    def grid(self, crops: Tensor) -> Tensor:
        """uint8 [N, 3, C, C] -> float32 [N, R * R, D]: the last maps, cells row by row."""
        return self._last(crops).flatten(2).transpose(1, 2)

    @torch.inference_mode()
    def _last(self, crops: Tensor) -> Tensor:
        pixels = crops.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        x = self.transform.standardise(pixels).to(self._dtype)
        maps = self._load_maps()
        if self.device.type != "cuda":
            return maps(x).float()
        # TF32 off: a feature must not depend on the card's generation; no timing of kernels: nor on the day
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            return maps(x).float()


def open_backbone(
    name: str,
    weights: Path,
    *,
    variant: Variant = "v1",
    crop_px: int | None = None,
    resize_px: int | None = None,
    dtype: Dtype = "float32",
    device: str = "cpu",
) -> FeatureNet:
    """EfficientNet-Lite2, or a network of DIM; its weights file (`.pth` or safetensors) is read for the first crop.

    `crop_px`, `resize_px`: other sizes than those that the weights' variant was evaluated with. Raises ConfigError for
    a name or variant that does not exist.
    """
    if name == efficientnet.NAME:
        return _efficientnet(weights, crop_px, resize_px, dtype, device)
    if name not in DIM:
        raise ConfigError(f"unknown network {name!r}", todo=f"use one of {', '.join((efficientnet.NAME, *DIM))}")
    if variant == "v2" and name in WITHOUT_V2:
        raise ConfigError(f"torchvision has no v2 weights of {name}", todo="set weights_variant: v1")
    transform = Transform(crop_px or CROP_PX, resize_px or RESIZE_PX[variant])
    return FeatureNet(
        functools.partial(_torchvision_maps, name, weights, dtype, device),
        transform,
        DIM[name],
        _identity(name, weights, transform, dtype),
        dtype=getattr(torch, dtype),
        device=torch.device(device),
    )


def build_backbone(name: str, weights: Path, **settings: Any) -> FeatureNet:
    """As `open_backbone`, loaded; raises WeightsError where the file is not of this network."""
    return open_backbone(name, weights, **settings).load()


def _torchvision_maps(name: str, weights: Path, dtype: Dtype, device: str) -> Callable[[Tensor], Tensor]:
    network = fold_batch_norm(load_torchvision(name, weights)).to(
        device=device, dtype=getattr(torch, dtype), memory_format=torch.channels_last
    )
    return fastest(network, fuse=dtype == "float32" and torch.device(device).type == "cpu")


def load_torchvision(name: str, weights: Path) -> ResNet:
    """A torchvision ResNet in evaluation mode with a file's weights; all its keys but the classifier's, no other."""
    with torch.device("meta"):
        network: ResNet = getattr(torchvision.models, name)(weights=None)
    network.fc = nn.Identity()  # type: ignore[assignment]
    state = {key: value for key, value in read_state(weights).items() if not key.startswith("fc.")}
    wanted = {key for key in network.state_dict() if not key.endswith("num_batches_tracked")}  # old files lack these
    odd = {key for key, value in state.items() if value.is_complex() or value.layout != torch.strided}
    lost, strange = sorted(wanted - state.keys()), sorted(odd | (state.keys() - network.state_dict().keys()))
    if lost or strange:
        raise WeightsError(
            f"no weights of torchvision's {name}: {len(lost)} tensor(s) missing, {len(strange)} unknown",
            where=str(weights),
            found=", ".join([f"no {key}" for key in lost[:2]] + strange[:2]),
            todo="use a state dict of torchvision's own keys, without a prefix",
        )
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"no weights of torchvision's {name}", where=str(weights), found=str(error).splitlines()[1].strip()
        ) from None
    return network.float().eval().requires_grad_(False)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` state dict (unpickled as tensors only) or a safetensors file."""
    state = _safetensors(path) if path.suffix == ".safetensors" else load_tensors(path)
    if not isinstance(state, dict) or not all(
        isinstance(one, Tensor) and type(key) is str for key, one in state.items()
    ):
        raise WeightsError(
            "no state dict of tensors",
            where=str(path),
            found=f"keys {', '.join(map(str, list(state)[:4]))}" if isinstance(state, dict) else type(state).__name__,
            todo="save the network's state_dict() alone",
        )
    return state


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    except (safetensors.SafetensorError, ValueError) as error:
        todo = "fetch the file again, or convert it to safetensors"
        raise WeightsError("no safetensors file, or damaged", where=str(path), found=str(error), todo=todo) from None


def _efficientnet(weights: Path, crop_px: int | None, resize_px: int | None, dtype: Dtype, device: str) -> FeatureNet:
    crop = crop_px or CROP_PX
    transform = Transform(crop, resize_px or max(crop, RESIZE_PX["v1"]), efficientnet.MEAN, efficientnet.STD)
    where = torch.device(device), getattr(torch, dtype)
    return FeatureNet(
        lambda: optimize(efficientnet.load(weights), *where),
        transform,
        efficientnet.DIM,
        _identity(efficientnet.NAME, weights, transform, dtype),
        dtype=where[1],
        device=where[0],
    )


def _identity(name: str, weights: Path, transform: Transform, dtype: Dtype) -> dict[str, str]:
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "name": name,
        "weights": digest,
        "transform": transform.identity,
        "dtype": dtype,
        "images": images.VERSION,
        "version": VERSION,
    }

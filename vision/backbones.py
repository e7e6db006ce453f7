"""Networks that turn crops into region features: EfficientNet-Lite2 and torchvision's ResNets, frozen or trainable.

N crops, C side of a crop in pixels, D floats of a feature, R side of the last convolution's map.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cache import keys
from schema.errors import ConfigError
from vision import efficientnet, images, resnet
from vision.crops import Transform

Dtype = Literal["float32", "bfloat16", "float16"]
Variant = Literal["v1", "v2"]
Maps = Callable[[Tensor], Tensor]  # standardized crops [N, 3, C, C] -> the last convolution's maps [N, D, R, R]

# The module of each network. All have the same names, from CPU_BATCH and VERSION to `load` and `inference_maps`
NETWORKS: dict[str, ModuleType] = {efficientnet.NAME: efficientnet, **dict.fromkeys(resnet.DIM, resnet)}
WITHOUT_V2 = (efficientnet.NAME, "resnet18", "resnet34")
CROP_PX = 224  # torchvision's presets for both variants
RESIZE_PX = {"v1": 256, "v2": 232}  # torchvision's presets: IMAGENET1K_V1 and IMAGENET1K_V2


@dataclass(eq=False)
class FeatureNet:
    """A frozen network that turns crops into features; `load_maps` reads its weights, for the first crop.

    `dim`: floats of a feature; `identity`: all that its numbers depend on, and nothing else; `transform`: how a crop
    becomes its input. A row's last bits depend on the batch's shape (not on its other rows), so rows that are stored
    are computed in one shape.
    """

    load_maps: Callable[[], Maps]
    transform: Transform
    dim: int
    identity: dict[str, str]
    device: torch.device
    dtype: torch.dtype

    @functools.cached_property
    def maps(self) -> Maps:
        """The network, its weights read now; raises WeightsError where the file is not of this network."""
        return self.load_maps()

    def forward(self, crops: Tensor) -> Tensor:
        """uint8 [N, 3, C, C] on any device -> float32 [N, D] on the network's device: the last maps' means."""
        return self._last(crops).mean((2, 3))

    def grid(self, crops: Tensor) -> Tensor:
        """uint8 [N, 3, C, C] -> float32 [N, R * R, D]: the last maps, cells row by row."""
        return self._last(crops).flatten(2).transpose(1, 2)

    @torch.inference_mode()
    def _last(self, crops: Tensor) -> Tensor:
        x = self.transform.standardise(crops.to(self.device, non_blocking=True)).to(self.dtype)
        maps = self.maps
        if self.device.type == "cpu":  # threads share the flags below
            return maps(x).float()
        # TF32 off: a feature must not depend on the GPU's generation. No benchmark: nor on timing
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
    """A network of NETWORKS; its weights file (`.pth` or safetensors) is read for the first crop.

    `crop_px`, `resize_px`: other sizes than those that the weights' variant was evaluated with. Raises ConfigError for
    a name or variant that does not exist.
    """
    if name not in NETWORKS:
        raise ConfigError(f"unknown network {name!r}", todo=f"use one of {', '.join(NETWORKS)}")
    if variant == "v2" and name in WITHOUT_V2:
        raise ConfigError(f"torchvision has no v2 weights of {name}", todo="set weights_variant: v1")
    module, crop = NETWORKS[name], crop_px or CROP_PX
    transform = Transform(crop, resize_px or max(crop, RESIZE_PX[variant]), module.MEAN, module.STD)
    identity = {
        "name": name,
        "weights": keys.digest_file(weights),
        "transform": transform.identity,
        "dtype": dtype,
        "images": images.VERSION,
        "version": module.VERSION,
    }
    target = torch.device(device), getattr(torch, dtype)

    def load_maps() -> Maps:
        return module.inference_maps(module.load(name, weights), *target)

    return FeatureNet(load_maps, transform, module.DIM[name], identity, *target)


class CropNet(nn.Module):
    """`FeatureNet.forward` as a module with gradients down to the first convolution; `network` holds the parameters.

    Batch norm keeps the statistics of pretraining: a step has few crops, so its own would be noise, and a crop's
    feature would depend on the rest of the batch. Scales and shifts are trained. Crops are computed in slices of
    `batch`; with `checkpointing` activations take the memory of one slice, as the backward pass computes each again.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        maps: Callable[..., Tensor],  # of the network and standardized crops [N, 3, C, C]
        transform: Transform,
        dim: int,
        batch: int,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        self.network, self._maps = network.eval(), maps
        self.transform, self.dim, self.batch, self.checkpointing = transform, dim, batch, checkpointing
        for name, values in (("mean", transform.mean), ("std", transform.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """As any module's, but the network itself stays in evaluation mode: it has batch norm and no dropout."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, crops: Tensor) -> Tensor:
        """uint8 [N, 3, C, C] -> float32 [N, D]: the means of the last convolution's maps."""
        if not (self.checkpointing and torch.is_grad_enabled()):
            return torch.cat([self._features(part) for part in crops.split(self.batch)])
        # nothing in the network is random, so there is no generator to restore
        again = functools.partial(checkpoint, self._features, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([cast(Tensor, again(part)) for part in crops.split(self.batch)])

    def _features(self, crops: Tensor) -> Tensor:
        pixels = crops.contiguous(memory_format=torch.channels_last)
        x = pixels.float().div_(255).sub_(self.mean).div_(self.std)
        return self._maps(self.network, x).float().mean((2, 3))


def build_crop_net(
    name: str, weights: Path | None, transform: Transform, dim: int, *, batch: int, checkpointing: bool
) -> CropNet:
    """A network of NETWORKS, without its classifier.

    `weights` None: the bare structure, for a run that brings its own. Raises WeightsError where the file is not of this
    network, ConfigError for an unknown name or a width other than `dim`.
    """
    if name not in NETWORKS:
        raise ConfigError(f"no network {name!r} can be trained", todo=f"use one of {', '.join(NETWORKS)}")
    module = NETWORKS[name]
    if (width := module.DIM[name]) != dim:
        raise ConfigError(f"{name} has features of a different width", found=f"{width} instead of {dim} floats")
    network: nn.Module = module.load(name, weights) if weights else module.without_weights(name)
    return CropNet(network.requires_grad_(True), module.last_maps, transform, dim, batch, checkpointing)

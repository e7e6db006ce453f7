"""Which network makes the features, and which regions a post has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, model_validator

from cache import weights
from cache.models import EFFICIENTNET, ModelRef
from pipeline.engine import Engine
from schema.config import Config
from vision import efficientnet
from vision.backbones import DIM, Dtype, FeatureNet, Variant, open_backbone

EMBEDDED = "embedded"
ENUM = "IMAGENET1K_"  # how torchvision's names of weights begin
BATCH = {"cpu": 16, "cuda": 256}  # crops: beyond them a forward pass of ResNet-152 gains nothing


def published(net: str) -> Sequence[Any]:
    """Torchvision's weights enums of a ResNet, of any other name none."""
    from torchvision.models import get_model_weights

    return tuple(get_model_weights(net)) if net in DIM else ()


class RegionsConfig(Config):
    """Parameters of the regions stage. Those from `batch` on change no number beyond a row's last bits."""

    net: Literal["efficientnet-lite2", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = (
        "efficientnet-lite2"
    )
    weights: str = EMBEDDED  # "embedded", the path of a file in torchvision's format, or IMAGENET1K_V1, IMAGENET1K_V2
    digest: str = ""  # sha256 that the weights must have, "" for no check
    weights_variant: Variant = "v1"  # torchvision's: decides the sizes below where they are not given
    crop_px: int | None = Field(default=None, ge=1)  # side of the network's input
    resize_px: int | None = Field(default=None, ge=1)  # short side before the centre is cut
    dtype: Dtype = "float32"  # of the computation
    store_dtype: Literal["float32", "float16"] = "float32"  # of the features in store and pack
    no_image: Literal["empty", "paper"] = "empty"  # paper: the empty image once more for each word and phrase
    max_phrases: int | None = Field(default=None, ge=0)  # objects of noun phrases in a post; the longest are cut first
    grid: bool = False  # the last convolution's 7 x 7 cells of each image too, in the pack's folder `grid`
    n_buckets: int = Field(default=64, ge=1)  # files of the pack
    batch: int | None = Field(default=None, ge=1)  # crops of a forward pass; None: by device
    workers: int = Field(default=4, ge=0)  # threads that decode and crop
    engine: Engine = "local"
    actors: int = Field(default=0, ge=0)  # of `engine: ray`; 0: as many as fit on the cluster
    device: str = "auto"  # auto: a GPU if there is one

    @model_validator(mode="before")
    @classmethod
    def _by_torchvisions_name(cls, values: dict[str, Any]) -> dict[str, Any]:
        """An enum of torchvision's becomes its file's name and its variant; its files must not go with another one."""
        name, net = str(values.get("weights", "")), str(values.get("net", ""))
        if not name.startswith(ENUM) and not name.startswith(f"{net}-"):
            return values
        files = {one.name: one.url.rsplit("/", 1)[-1] for one in published(net)}
        if name.startswith(ENUM):
            if name not in files:
                raise ValueError(f"torchvision has no {name} of {net}, but {', '.join(files) or 'none'}")
            return {**values, "weights": files[name], "weights_variant": name[-2:].lower()}
        wanted = {file: one[-2:].lower() for one, file in files.items()}.get(Path(name).name)
        if wanted and wanted != values.get("weights_variant", "v1"):
            raise ValueError(f"{name} are torchvision's weights {wanted}: set weights_variant: {wanted}")
        return values

    def model_ref(self) -> ModelRef:
        """The network's weights file."""
        if self.net == efficientnet.NAME and self.weights == EMBEDDED:
            return EFFICIENTNET
        if self.weights == EMBEDDED:
            return ModelRef(self.net, "region net", "embedded", digest=self.digest)
        return ModelRef(self.weights, "region net", "file", digest=self.digest)

    def torch_device(self) -> str:
        import torch

        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    def n_batch(self) -> int:
        """Crops of a forward pass."""
        return self.batch or BATCH.get(self.torch_device().split(":")[0], BATCH["cpu"])


PRESETS = MappingProxyType(
    {
        "embedded": RegionsConfig(),
        # For images that the project draws, 160 x 128 pixels: a twelfth of the work of a crop of 224 pixels
        "synthetic": RegionsConfig(crop_px=64, resize_px=64, batch=64),
        "tiny": RegionsConfig(crop_px=32, resize_px=32, batch=8, workers=0, n_buckets=4),
        # Section 4.2: a ResNet-152 pretrained on ImageNet; the file is torchvision's IMAGENET1K_V1 under its own name
        "paper": RegionsConfig(net="resnet152", weights="resnet152-394f9c45.pth"),
    }
)


def build_net(config: RegionsConfig) -> FeatureNet:
    """The network that a configuration names, loaded; raises WeightsError also for a file of another network."""
    return open_net(config).load()


def open_net(config: RegionsConfig) -> FeatureNet:
    """The network that a configuration names, known by its file's digest; WeightsError where the file is missing."""
    packaged = config.net == efficientnet.NAME and config.weights == EMBEDDED
    return open_backbone(
        config.net,
        efficientnet.package_file() if packaged else weights.find(config.model_ref().name, config.digest or None),
        variant=config.weights_variant,
        crop_px=config.crop_px,
        resize_px=config.resize_px,
        dtype=config.dtype,
        device=config.torch_device(),
    )

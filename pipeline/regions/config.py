"""The regions stage's parameters: the feature network and the regions of a post."""

from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

from pydantic import Field, model_validator

from cache import weights
from cache.models import ModelRef, catalog
from kernels import usable_dtype
from pipeline.engine import Engine
from schema.config import Config
from vision import efficientnet, resnet
from vision.backbones import NETWORKS, Dtype, FeatureNet, Variant, open_backbone
from vision.torch_files import resolve_device

EMBEDDED = "embedded"
ENUM = "IMAGENET1K_"  # how torchvision's names of weights begin
GPU_BATCH = 256  # crops: beyond them a forward pass of ResNet-152 gains nothing


class RegionsConfig(Config):
    """Parameters of the regions stage. Those from `batch` on change no number beyond a row's last bits."""

    net: Literal[*NETWORKS] = efficientnet.NAME  # type: ignore[valid-type]
    weights: str = EMBEDDED  # "embedded", the path of a file in torchvision's format, or IMAGENET1K_V1, IMAGENET1K_V2
    digest: str = ""  # sha256 that the weights must have, "" for no check
    weights_variant: Variant = "v1"  # torchvision's: decides the sizes below where they are not given
    crop_px: int | None = Field(default=None, ge=1)  # side of the network's input
    resize_px: int | None = Field(default=None, ge=1)  # short side before the center is cut
    dtype: Dtype = "float32"  # of the computation
    store_dtype: Literal["float32", "float16"] = "float32"  # of the features in store and pack
    no_image: Literal["empty", "paper"] = "empty"  # paper: the empty image once more for each word and phrase
    max_phrases: int | None = Field(default=None, ge=0)  # objects of noun phrases in a post; the longest are cut first
    grid: bool = False  # the last convolution's 7 x 7 cells of each image too, in the pack's folder `grid`
    n_buckets: int = Field(default=64, ge=1)  # files of the pack
    batch: int | None = Field(default=None, ge=1)  # crops of a forward pass; None: by device
    workers: int = Field(default=4, ge=0)  # threads that decode and crop; batches that a CPU computes at once, at most
    engine: Engine = "local"
    actors: int = Field(default=0, ge=0)  # of `engine: ray`; 0: as many as fit on the cluster
    device: str = "auto"  # auto: a GPU if there is one

    @model_validator(mode="before")
    @classmethod
    def _by_torchvisions_name(cls, values: dict[str, Any]) -> dict[str, Any]:
        """A name of torchvision's enum becomes its file and variant; its file must not have another variant."""
        name, net = str(values.get("weights", "")), str(values.get("net", ""))
        if not name.startswith((ENUM, f"{net}-")):
            return values
        published = [file for file in catalog() if file.startswith(f"{net}-")] if net in resnet.DIM else []
        files = {f"{ENUM}V{number}": file for number, file in enumerate(published, start=1)}  # V1 is listed before V2
        if name.startswith(ENUM):
            if name not in files:
                raise ValueError(f"unknown weights {name} of {net}; available: {', '.join(files) or 'none'}")
            return {**values, "weights": files[name], "weights_variant": name[-2:].lower()}
        variant = {file: one[-2:].lower() for one, file in files.items()}.get(Path(name).name)
        if variant and variant != values.get("weights_variant", "v1"):
            raise ValueError(f"{name} has weights {variant}: set weights_variant: {variant}")
        return values

    def model_ref(self) -> ModelRef:
        """The network's weights file."""
        if self.weights != EMBEDDED:
            return ModelRef(self.weights, "region net", "file", digest=self.digest)
        return NETWORKS[self.net].PACKAGE or ModelRef(self.net, "region net", "embedded", digest=self.digest)

    def torch_device(self) -> str:
        return resolve_device(self.device)

    def n_batch(self) -> int:
        """Crops of a forward pass."""
        return self.batch or (GPU_BATCH if self.torch_device().startswith("cuda") else NETWORKS[self.net].CPU_BATCH)


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


def open_net(config: RegionsConfig) -> FeatureNet:
    """The network that the parameters name, its weights not read yet; WeightsError where the file is missing."""
    module, name = NETWORKS[config.net], config.model_ref().name
    packaged = config.weights == EMBEDDED and module.PACKAGE
    return open_backbone(
        config.net,
        module.package_file() if packaged else weights.find(name, config.digest or None),
        variant=config.weights_variant,
        crop_px=config.crop_px,
        resize_px=config.resize_px,
        dtype=cast(Dtype, usable_dtype(config.dtype, config.torch_device())),
        device=config.torch_device(),
    )

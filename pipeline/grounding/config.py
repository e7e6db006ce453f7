"""What the ground stage is told."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from pydantic import Field

from cache.models import Kind as ModelKind
from cache.models import ModelRef
from pipeline.engine import Engine
from schema.config import Config

Name = Literal["detector", "toy-onestage", "onestage", "owlv2", "grounding-dino", "random", "whole-image"]
Dtype = Literal["float32", "bfloat16", "float16"]
DetectorName = Literal[
    "nanodet-g",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
]
Processor = Literal["torchvision", "pil"]

# Where a grounder's weights come from when the parameters do not say: the hub's names; "" for grounders without any.
WEIGHTS = MappingProxyType(
    {
        "detector": "nanodet-g",  # of torchvision's detectors its own file's name, see DETECTOR_FILES
        "toy-onestage": "toy-onestage",
        "onestage": "onestage",  # a folder that `fmit models convert onestage` writes
        "owlv2": "google/owlv2-base-patch16-ensemble",
        "grounding-dino": "IDEA-Research/grounding-dino-tiny",
        "random": "",
        "whole-image": "",
    }
)
DETECTOR_FILES = MappingProxyType(  # as torchvision publishes them; the last digits are of their sha256
    {
        "fasterrcnn_resnet50_fpn": "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        "fasterrcnn_resnet50_fpn_v2": "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        "retinanet_resnet50_fpn": "retinanet_resnet50_fpn_coco-eeacb38b.pth",
        "retinanet_resnet50_fpn_v2": "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",
    }
)


class GroundConfig(Config):
    """Parameters of the ground stage. Those from `batch` on change no number beyond a row's last bits."""

    grounder: Name = "toy-onestage"
    detector: DetectorName = "nanodet-g"  # of the detector grounder; torchvision's need a weights file
    weights: str = ""  # a path, a name on the hub, or of an embedded file; "" means the grounder's own, see WEIGHTS
    digest: str = ""  # sha256 that the weights file must have, "" for no check
    revision: str = ""  # commit, branch or tag on the hub, "" for main as it was fetched
    dtype: Dtype = "float32"  # of the computation
    processor: Processor = "torchvision"  # the library's image processor (owlv2, grounding-dino); pil is its slow one
    merge: bool = True  # grounding-dino reads a post's phrases in one pass, which lets them sway each other
    n_phrases_max: int = Field(default=32, ge=0)  # grounded of a post, in the order of its words; the rest is counted
    batch: int | None = Field(default=None, ge=1)  # images of a pass on a GPU (owlv2, grounding-dino); a CPU takes one
    workers: int = Field(default=2, ge=0)  # threads that decode and resize
    engine: Engine = "local"
    actors: int = Field(default=0, ge=0)  # of `engine: ray`; 0: as many as the cluster has room for
    device: str = "auto"  # auto: a GPU if there is one; the synthetic stays on the CPU
    allow_synthetic: bool = False  # let a part trained on drawings see other images; results are marked

    def source(self) -> str:
        """The path or name of the weights."""
        if self.grounder == "detector" and not self.weights:
            return DETECTOR_FILES.get(self.detector, WEIGHTS["detector"])
        return self.weights or WEIGHTS[self.grounder]

    def model_ref(self) -> ModelRef | None:
        """The grounder's model; None for a grounder without one."""
        name = self.source()
        if not name:
            return None
        kind: ModelKind = "converted" if self.grounder == "onestage" else "hub"
        if self.grounder in ("detector", "toy-onestage"):
            kind = "embedded" if name == WEIGHTS[self.grounder] else "file"
        return ModelRef(name, "grounder", kind, digest=self.digest, revision=self.revision)

    def torch_device(self) -> str:
        import torch

        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"


PRESETS = MappingProxyType(
    {
        "embedded": GroundConfig(grounder="toy-onestage"),
        "tiny": GroundConfig(grounder="whole-image"),
        "owlv2": GroundConfig(grounder="owlv2"),
        "paper": GroundConfig(grounder="onestage"),  # Section 3.1: the one-stage toolkit of Yang et al. (2019)
    }
)

"""The ground stage's parameters."""

from types import MappingProxyType
from typing import Literal

from pydantic import Field

from pipeline.engine import Engine
from schema.config import Config

Dtype = Literal["float32", "bfloat16", "float16"]
DetectorName = Literal[
    "nanodet-g",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
]
Processor = Literal["torchvision", "pil"]

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

    grounder: str = "detector"  # a name of registry.GROUNDERS
    detector: DetectorName = "nanodet-g"  # of the detector grounder; torchvision's need a weights file
    weights: str = ""  # a path, a name on the hub, or of an embedded file; "": the default in registry.GROUNDERS
    digest: str = ""  # sha256 that the weights file must have, "" for no check
    revision: str = ""  # commit, branch or tag on the hub, "" for main as it was fetched
    dtype: Dtype = "float32"  # of the computation
    processor: Processor = "torchvision"  # the library's image processor (owlv2, grounding-dino); pil is its slow one
    merge: bool = True  # grounding-dino reads a post's phrases in one pass, where they change each other's boxes
    n_phrases_max: int = Field(default=32, ge=0)  # grounded of a post, in the order of its words; the rest is counted
    batch: int | None = Field(default=None, ge=1)  # images of a pass on a GPU (owlv2, grounding-dino); a CPU takes one
    workers: int = Field(default=2, ge=0)  # threads that decode and resize
    engine: Engine = "local"
    actors: int = Field(default=0, ge=0)  # of `engine: ray`; 0: as many as fit on the cluster
    device: str = "auto"  # auto: a GPU if there is one; the synthetic grounder stays on the CPU
    allow_synthetic: bool = False  # let a part trained on drawings see other images; results are marked

    def torch_device(self) -> str:
        from vision.torch_files import resolve_device  # late: it loads torch

        return resolve_device(self.device)


PRESETS = MappingProxyType(
    {
        "embedded": GroundConfig(),
        "synthetic": GroundConfig(grounder="synthetic-grounder"),  # for images that the project draws
        "tiny": GroundConfig(grounder="whole-image"),
        "owlv2": GroundConfig(grounder="owlv2"),
        "paper": GroundConfig(grounder="onestage"),  # Section 3.1: the one-stage toolkit of Yang et al. (2019)
    }
)

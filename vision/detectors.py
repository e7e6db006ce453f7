"""Object detectors: the embedded NanoDet-g, and torchvision's from weight files in its format.

D detections of one image.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from vision import nanodet
from vision.conv_layer import optimize
from vision.crops import bounded
from vision.torch_files import load_state, read_state

NANODET = "nanodet-g"
DETECTION_VERSION = "3"  # of everything between image and detections; a test pins some
NO_NORM_EPS = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")  # published with frozen batch norm, epsilon 0


class Detections(NamedTuple):
    """Boxes [D, 4] in pixels of the image (x0, y0, x1, y1), scores [D] in 0..1, highest first, and classes [D]."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


class Detector(NamedTuple):
    """`prepare` makes a tensor of an RGB image; `detect` gives its objects, given the image's width and height.

    Each image has its own forward pass, so its detections depend on nothing else. `classes`: a name for each index.
    """

    name: str
    classes: tuple[str, ...]
    device: torch.device
    prepare: Callable[[PIL.Image.Image], Tensor]
    detect: Callable[[Tensor, tuple[int, int]], Detections]


def load_detector(name: str, weights: Path, device: str = "cpu") -> Detector:
    """A detector by its name with the weights of a file; WeightsError where the file is not of this network."""
    if name != NANODET:
        return _torchvision(name, weights, device)
    network = optimize(nanodet.load(weights), torch.device(device), torch.float32)

    def detect(pixels: Tensor, size: tuple[int, int]) -> Detections:
        logits, distances = network(nanodet.standardize(pixels[None].to(device)))
        return Detections(*(x.cpu() for x in nanodet.detect(logits[0], distances[0], size)))

    return Detector(NANODET, nanodet.CLASSES, torch.device(device), nanodet.pixels, detect)


def _torchvision(name: str, weights: Path, device: str) -> Detector:
    import torchvision.models.detection as zoo  # slow to import

    network: nn.Module = getattr(zoo, name)(weights=None, weights_backbone=None, num_classes=91)
    counters = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    load_state(network, counters | read_state(weights), f"torchvision's {name}", weights)
    if name in NO_NORM_EPS:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    network.to(device)
    classes = tuple(zoo.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])  # the same for all of them

    def detect(pixels: Tensor, size: tuple[int, int]) -> Detections:
        (output,) = network([pixels.to(device).float() / 255])
        scale = torch.tensor([size[0] / pixels.shape[2], size[1] / pixels.shape[1]] * 2)
        return Detections(output["boxes"].cpu() * scale, output["scores"].cpu(), output["labels"].cpu())

    def prepare(image: PIL.Image.Image) -> Tensor:
        return torch.from_numpy(np.array(bounded(image))).permute(2, 0, 1)  # uint8 [3, H, W]

    return Detector(name, classes, torch.device(device), prepare, detect)

"""Object detectors: the embedded NanoDet-g, and torchvision's from weight files in its format.

D detections of one image.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import PIL.Image
import torch
import torchvision.models.detection as zoo
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from schema.errors import WeightsError
from vision import nanodet
from vision.conv_layer import optimize
from vision.torch_files import load_tensors

NANODET = "nanodet-g"
DETECTION_VERSION = "1"  # of the computation from image to detections; a test pins some
NO_NORM_EPS = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")  # published with frozen batch norm, epsilon 0
MAX_SIDE_PX = 4000  # a larger image is made smaller before torchvision resizes it to 800 x 1333 at most


class Detections(NamedTuple):
    """Boxes [D, 4] in pixels of the image (x0, y0, x1, y1), scores [D] in 0..1, highest first, and classes [D]."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


class Detector(NamedTuple):
    """`prepare` makes a tensor of an RGB image; `detect` finds objects in it, given the image's width and height.

    An image is a pass of its own, so its detections depend on nothing else. `classes` holds a name for each index.
    """

    name: str
    classes: tuple[str, ...]
    prepare: Callable[[PIL.Image.Image], Tensor]
    detect: Callable[[Tensor, tuple[int, int]], Detections]


def load_detector(name: str, weights: Path, device: str = "cpu") -> Detector:
    """A detector by its name with the weights of a file; WeightsError where the file is not of this network."""
    return _nanodet(weights, device) if name == NANODET else _torchvision(name, weights, device)


def _nanodet(weights: Path, device: str) -> Detector:
    network = optimize(nanodet.load(weights), torch.device(device), torch.float32)

    def detect(pixels: Tensor, size: tuple[int, int]) -> Detections:
        scores, distances = network(nanodet.standardize(pixels[None].to(device)))
        return Detections(*(x.cpu() for x in nanodet.select(nanodet.decode(distances)[0], scores[0], size)))

    return Detector(NANODET, nanodet.CLASSES, nanodet.pixels, detect)


def _torchvision(name: str, weights: Path, device: str) -> Detector:
    network = load_torchvision(name, weights).to(device)
    classes = tuple(zoo.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])  # the same for all of them

    def detect(pixels: Tensor, size: tuple[int, int]) -> Detections:
        (found,) = network([pixels.to(device).float() / 255])
        scale = torch.tensor([size[0] / pixels.shape[2], size[1] / pixels.shape[1]] * 2)
        return Detections(found["boxes"].cpu() * scale, found["scores"].cpu(), found["labels"].cpu())

    return Detector(name, classes, _bounded_pixels, detect)


def load_torchvision(name: str, weights: Path) -> nn.Module:
    """A detector of torchvision in evaluation mode with the weights of a state dict in torchvision's layout."""
    network: nn.Module = getattr(zoo, name)(weights=None, weights_backbone=None, num_classes=91)
    state = load_tensors(weights)
    counters = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    try:
        network.load_state_dict(counters | state)
    except (RuntimeError, TypeError) as error:
        found = str(error).splitlines()[-1].strip()
        raise WeightsError(f"these are not weights of torchvision's {name}", where=str(weights), found=found) from None
    if name in NO_NORM_EPS:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    return network.eval().requires_grad_(False)


def _bounded_pixels(image: PIL.Image.Image) -> Tensor:
    """uint8 [3, H, W]."""
    scale = MAX_SIDE_PX / max(image.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), PIL.Image.Resampling.BOX)
    return pil_to_tensor(image.convert("RGB"))

"""NanoDet-g (RangiLyu/nanodet, Apache-2.0): a small object detector for the 80 classes of COCO.

N images, C channels, P cells of all three maps (52 x 52, 26 x 26, 13 x 13), K classes.
"""

import functools
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision.conv_layer import ConvLayer
from vision.crops import bounded, standardise
from vision.torch_files import load_state, read_state

SIDE_PX = 416  # of the square input; the image is resized to it without keeping its aspect ratio
MEAN = (103.53, 116.28, 123.675)  # of pixel values in 0..255, blue, green, red
STD = (57.375, 57.12, 58.395)
STRIDES = (8, 16, 32)  # pixels of the input a cell
N_BINS = 11  # of the distribution over each side's distance, in strides
N_CLASSES = 80
STEM = 32  # channels
STAGES = ((32, 1, 1), (64, 2, 2), (128, 2, 2), (256, 3, 2))  # input channels, residual blocks, stride
WIDTH = 128  # channels of the pyramid and the heads
MIN_LOGIT = math.log(0.05 / 0.95)  # of a score of 0.05: below it a cell is no candidate
NMS_IOU = 0.5  # of two boxes of one class, above which the one with the lower score is dropped
N_CANDIDATES = 10_000  # pairs of cell and class with the highest scores that enter NMS; photographs have fewer
CLASSES = tuple((Path(__file__).parent / "coco.txt").read_text(encoding="utf-8").splitlines())


def _conv(n_in: int, n_out: int, stride: int = 1) -> ConvLayer:
    return ConvLayer(n_in, n_out, 3, stride, activation="leaky_relu", norm=False)


class ResidualBlock(nn.Module):
    """Two convolutions of half the channels; their outputs are concatenated."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.first, self.second = _conv(n, n // 2), _conv(n // 2, n // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.cat((self.second(x), x), 1)


class Stage(nn.Module):
    """A cross-stage-partial block: [N, C, H, W] -> [N, 2 C, H / stride, W / stride]."""

    def __init__(self, n: int, n_blocks: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(n, n, stride)
        self.blocks = nn.Sequential(*(ResidualBlock(n) for _ in range(n_blocks)), _conv(n, n))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.cat((self.blocks(x), x), 1)


class NanoDet(nn.Module):
    """CSP backbone, path aggregation network and one head per scale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, STEM, 2)
        self.stages = nn.ModuleList(Stage(*sizes) for sizes in STAGES)
        self.laterals = nn.ModuleList(ConvLayer(2 * n, WIDTH, 1, norm=False) for n, _, _ in STAGES[1:])
        self.heads = nn.ModuleList(
            nn.Sequential(_conv(WIDTH, WIDTH), ConvLayer(WIDTH, N_CLASSES + 4 * N_BINS, 1, norm=False)) for _ in STRIDES
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Standardized images [N, 3, 416, 416], BGR -> logits of scores [N, P, K] and of distances [N, P, 4 * 11]."""
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        fine, middle, coarse = (lateral(x) for lateral, x in zip(self.laterals, maps[1:], strict=True))
        middle = middle + _resize(coarse, 2.0)
        fine = fine + _resize(middle, 2.0)
        middle = middle + _resize(fine, 0.5)
        pyramid = fine, middle, coarse + _resize(middle, 0.5)
        out = [head(x).flatten(2).transpose(1, 2) for head, x in zip(self.heads, pyramid, strict=True)]
        scores, distances = torch.cat(out, 1).split((N_CLASSES, 4 * N_BINS), -1)
        return scores, distances


def _resize(x: Tensor, scale: float) -> Tensor:
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def convolution_names() -> list[str]:
    """The network's convolutions in the order of a forward pass, which is the published graph's order too."""
    return [name for name, module in NanoDet().named_modules() if isinstance(module, nn.Conv2d)]


def load(path: Path) -> NanoDet:
    """The frozen network with the weights of a converted file; WeightsError for any other file."""
    with torch.device("meta"):
        network = NanoDet()
    load_state(network, read_state(path), "nanodet-g", path)
    return network


def pixels(image: PIL.Image.Image) -> Tensor:
    """An RGB image -> uint8 [3, 416, 416], BGR."""
    image = bounded(image)
    data = torch.frombuffer(bytearray(image.tobytes("raw", "BGR")), dtype=torch.uint8)
    whole = data.view(1, image.height, image.width, 3).permute(0, 3, 1, 2)  # torch is several times faster than Pillow
    return F.interpolate(whole, (SIDE_PX, SIDE_PX), mode="bilinear", antialias=True)[0]


def standardize(batch: Tensor) -> Tensor:
    """uint8 [N, 3, 416, 416] -> float32, channels last."""
    return standardise(batch.float(), MEAN, STD)


def detect(logits: Tensor, distances: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """One image's logits of scores [P, K] and of distances [P, 4 * 11] -> boxes, scores and classes, see `select`."""
    cells = (logits.amax(-1) > MIN_LOGIT).nonzero().squeeze(1)  # few: only these are decoded
    bins = torch.arange(N_BINS, dtype=torch.float32, device=distances.device)
    centre, stride = _grid(distances.device)[cells].split((2, 1), -1)
    sides = distances[cells].unflatten(-1, (4, N_BINS)).softmax(-1) @ bins * stride  # left, top, right, bottom
    return select(torch.cat((centre - sides[:, :2], centre + sides[:, 2:]), -1), logits[cells], size)


@functools.cache
def _grid(device: torch.device) -> Tensor:
    """The centre of each cell and its side in pixels of the input: x, y, stride [P, 3]."""
    grids = []
    for stride in STRIDES:
        centres = (torch.arange(SIDE_PX // stride, device=device) + 0.5) * stride
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        grids.append(torch.stack((x, y, torch.full_like(x, stride)), -1).flatten(0, 1))
    return torch.cat(grids)


def select(boxes: Tensor, logits: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """One image's boxes [P, 4] and logits [P, K] -> boxes [D, 4] in pixels of the image of `size`, scores [D] and
    classes [D] after non-maximum suppression, highest score first.
    """
    candidates = (logits.flatten() > MIN_LOGIT).nonzero().squeeze(1)
    best, order = logits.flatten()[candidates].sort(descending=True)
    scores, cell_and_class = best[:N_CANDIDATES].sigmoid(), candidates[order[:N_CANDIDATES]]
    classes = cell_and_class % N_CLASSES
    chosen = boxes[cell_and_class // N_CLASSES].clamp(0, SIDE_PX)
    keep = batched_nms(chosen, scores, classes)
    scale = torch.tensor([side / SIDE_PX for side in size * 2], device=boxes.device)
    return chosen[keep] * scale, scores[keep], classes[keep]


def batched_nms(boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """torchvision's function of this name for boxes inside the input, without importing torchvision's modules."""
    return _nms()(boxes + classes[:, None] * (SIDE_PX + 1), scores, NMS_IOU)  # shifted: two classes never overlap


@functools.cache
def _nms() -> Callable[[Tensor, Tensor, float], Tensor]:
    """The operator from torchvision's library alone: importing the package takes as long as importing torch."""
    spec = importlib.util.find_spec("torchvision")
    for library in Path(spec.origin).parent.glob("_C*"):  # type: ignore[union-attr, arg-type]
        torch.ops.load_library(str(library))
    return torch.ops.torchvision.nms

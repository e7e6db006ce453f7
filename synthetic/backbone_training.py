"""Training of `toy-resnet` on crops of drawn things, boxes jittered as a grounder's are."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from synthetic.scenes import Drawn
from vision.toy_resnet import CROP_PX, MEAN, STD, ToyResNet

N_CROPS = 128  # of a batch
DIM = 128  # floats of a feature
GOLD_PROB = 0.25  # how often a crop is cut at the thing's own box
LEAST_IOU = 0.5  # of a jittered box with the thing's own
SMOOTHING = 0.05  # of labels: keeps features from growing without end

Xyxy = tuple[int, int, int, int]


def jitter(rng: np.random.Generator, box: np.ndarray, width: int, height: int, least_iou: float = LEAST_IOU) -> Xyxy:
    """A random box inside the image whose IoU with `box` is at least `least_iou`."""
    x0, y0, x1, y1 = box.astype(float)
    if least_iou >= 1:
        return int(x0), int(y0), int(x1), int(y1)
    sides = np.array([x1 - x0, y1 - y0, x1 - x0, y1 - y0])
    while True:
        moved = np.rint(box + rng.uniform(-0.35, 0.35, 4) * sides)
        a0, b0, a1, b1 = np.clip(moved, 0, [width, height, width, height])
        if a1 - a0 < 2 or b1 - b0 < 2:
            continue
        common = max(0.0, min(a1, x1) - max(a0, x0)) * max(0.0, min(b1, y1) - max(b0, y0))
        if common / ((a1 - a0) * (b1 - b0) + sides[0] * sides[1] - common) >= least_iou:
            return int(a0), int(b0), int(a1), int(b1)


def crops(pixels: list[np.ndarray], boxes: list[Xyxy]) -> Tensor:
    """uint8 [H, W, 3] images, a box of each -> float32 [N, 3, CROP_PX, CROP_PX], standardised."""
    size = (CROP_PX, CROP_PX)
    cut = [
        np.asarray(Image.fromarray(image[y0:y1, x0:x1]).resize(size, Image.Resampling.BILINEAR))
        for image, (x0, y0, x1, y1) in zip(pixels, boxes, strict=True)
    ]
    x = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class Batches:
    """Batches of crops of a drawn set; batch `step` depends on (seed, step) alone."""

    def __init__(self, drawn: Drawn, seed: int) -> None:
        self.drawn, self.seed = drawn, seed
        self.things = np.argwhere(drawn.kinds >= 0)  # [n, 2]: scene, thing

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Crops float32 [N_CROPS, 3, CROP_PX, CROP_PX] and their kinds int64 [N_CROPS]."""
        rng = np.random.default_rng([self.seed, step])
        pixels, kinds = [], []
        boxes: list[Xyxy] = []
        height, width = self.drawn.pixels.shape[1:3]
        for scene, thing in self.things[rng.integers(len(self.things), size=N_CROPS)]:
            box = self.drawn.boxes[scene, thing]
            least_iou = 1.0 if rng.random() < GOLD_PROB else LEAST_IOU
            boxes.append(jitter(rng, box, width, height, least_iou))
            pixels.append(self.drawn.pixels[scene][:, :, rng.permutation(3)])
            kinds.append(int(self.drawn.kinds[scene, thing]))
        x = crops(pixels, boxes)
        flipped = torch.from_numpy(rng.random(N_CROPS) < 0.5)[:, None, None, None]
        return torch.where(flipped, x.flip(3), x), torch.tensor(kinds)


def loss(network: ToyResNet, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of the kinds."""
    x, kinds = batch
    return F.cross_entropy(network(x), kinds, label_smoothing=SMOOTHING)

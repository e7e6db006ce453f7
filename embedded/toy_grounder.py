"""Training of `toy-onestage` on drawn scenes: what is asked of a scene, what the network should answer, the loss.

Shapes: N scenes, T things a scene, Q = N * N_ASKED queries, K answers a query (see pipeline.grounding.onestage).
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from embedded.placing import CUES
from embedded.shapes import KINDS
from embedded.toy_data import Drawn
from pipeline.grounding.letterbox import MEAN, STD, letterbox, to_square
from pipeline.grounding.onestage import OneStage, Sizes
from pipeline.grounding.onestage_grounder import PAD, UNKNOWN, Vocabulary

WORDS = (PAD, UNKNOWN, *CUES, *KINDS)
SIZES = Sizes(
    size_px=128,
    stem=24,
    stem_stride=2,
    stages=((48, 1), (96, 1), (128, 1), (128, 1)),
    width=96,
    anchors=(  # tiny, normal, and prominent or huge things at 128 / 160 of their size
        ((14.0, 18.0), (16.0, 16.0), (19.0, 14.0)),
        ((25.0, 33.0), (30.0, 30.0), (34.0, 26.0)),
        ((44.0, 44.0), (52.0, 66.0), (66.0, 54.0)),
    ),
)
N_SCENES, N_ASKED = 16, 4  # of a batch, and queries of a scene
BOX_WEIGHT = 5.0  # of the box terms beside the confidence term, as in the paper's code
CUE_PROB, KIND_PROB = 0.62, 0.27  # how often a cue, a kind alone is asked for; else something that names no one thing
_FLIPPED = {"left": "right", "right": "left"}
FLIPPED_CUES = [CUES.index(_FLIPPED.get(cue, cue)) for cue in CUES]


class Batches:
    """Batches of a drawn set; batch `step` depends on (seed, step) alone."""

    def __init__(self, drawn: Drawn, seed: int) -> None:
        self.seed = seed
        self.kinds, self.cues = drawn.kinds, drawn.cues
        self.pixels = np.empty((len(drawn), 3, SIZES.size_px, SIZES.size_px), np.uint8)
        for row, pixels in enumerate(drawn.pixels):
            square, scale, offset = letterbox(Image.fromarray(pixels), SIZES.size_px)
            self.pixels[row] = np.rint((square * STD + MEAN) * 255)
        self.boxes = to_square(drawn.boxes.astype(np.float32), scale, offset)
        self.vocabulary = Vocabulary(WORDS)

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Images float32 [N, 3, S, S], words int64 [Q, W], and `targets` of the things asked for."""
        rng = np.random.default_rng([self.seed, step])
        images, words, things = [], [], []
        for row in rng.integers(len(self.pixels), size=N_SCENES):
            flip = rng.random() < 0.5
            pixels = self.pixels[row][rng.permutation(3)]
            images.append(pixels[:, :, ::-1] if flip else pixels)
            boxes, cues = self.boxes[row], self.cues[row]
            if flip:
                boxes = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [SIZES.size_px, 0, SIZES.size_px, 0]
                cues = cues[:, FLIPPED_CUES]
            for _ in range(N_ASKED):
                text, asked = ask(rng, self.kinds[row], cues)
                words.append(self.vocabulary.encode(text))
                things.append(boxes[asked])
        pixels = torch.from_numpy(np.stack(images)).float()
        return (pixels / 255 - MEAN) / STD, torch.tensor(words), *targets(things)


def ask(rng: np.random.Generator, kinds: np.ndarray, cues: np.ndarray) -> tuple[str, list[int]]:
    """A query of a scene with kinds [T] (-1: no thing) and cues [T, len(CUES)], and the things that answer it.

    A cue decides, whatever kind stands beside it; a kind of several things, one that is not there, and words that
    name nothing are answered by all that fit equally well, so that their scores stay low.
    """
    present = [int(i) for i in np.flatnonzero(kinds >= 0)]
    told = [(i, int(c)) for i, c in zip(*np.nonzero(cues), strict=True)]
    dice = rng.random()
    if told and dice < CUE_PROB:
        i, cue = told[rng.integers(len(told))]
        words = [CUES[cue]]
        if rng.random() < 0.45:
            words.append(KINDS[kinds[i]] if rng.random() < 0.85 else str(rng.choice(KINDS)))
        return " ".join(words), [int(i)]
    if dice < CUE_PROB + KIND_PROB:
        kind = kinds[rng.choice(present)]
    elif dice < 1 - (1 - CUE_PROB - KIND_PROB) / 2:
        kind = rng.integers(len(KINDS))
    else:
        return UNKNOWN, present
    return KINDS[kind], [i for i in present if kinds[i] == kind] or present


_ANCHORS = np.array(SIZES.anchors)  # [S, A, 2]


def targets(things: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """Of the boxes asked for, [*, 4] a query: query and answer index int64 [M, 2], weight [M], offsets [M, 4].

    A box belongs to the anchor of most overlap, in the cell that holds its centre (Yang et al., Section 3.3); the
    weights of a query add up to 1. Offsets: x and y within the cell, 0..1, and log width and height over the anchor.
    """
    index, weight, offsets = [], [], []
    for query, boxes in enumerate(things):
        for box in boxes:
            side = box[2:] - box[:2]
            common = np.minimum(_ANCHORS, side).prod(-1)
            overlap = common / (_ANCHORS.prod(-1) + side.prod() - common)
            scale, anchor = np.unravel_index(int(overlap.argmax()), overlap.shape)
            stride = SIZES.strides[scale]
            cell = (box[:2] + box[2:]) / 2 / stride
            x, y = np.floor(cell).astype(int)
            n_cells = SIZES.size_px // stride
            before = sum((SIZES.size_px // SIZES.strides[s]) ** 2 * len(SIZES.anchors[s]) for s in range(scale))
            index.append((query, before + (y * n_cells + x) * len(SIZES.anchors[scale]) + anchor))
            weight.append(1 / len(boxes))
            offsets.append([*(cell - (x, y)), *np.log(side / _ANCHORS[scale, anchor])])
    return torch.tensor(index), torch.tensor(weight).float(), torch.tensor(np.array(offsets)).float()


def loss(network: OneStage, batch: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Cross-entropy over all K answers of a query, and the boxes' offsets at the right answers."""
    images, words, index, weight, offsets = batch
    seen = [x.repeat_interleave(N_ASKED, 0) for x in network.see(images)]
    answers = network(seen, words)
    picked = answers[index[:, 0], index[:, 1]]
    confidence = -(answers[..., 4].log_softmax(1)[index[:, 0], index[:, 1]] * weight).sum() / len(words)
    place = F.smooth_l1_loss(torch.sigmoid(picked[:, :2]), offsets[:, :2], beta=0.1)
    size = F.smooth_l1_loss(picked[:, 2:4], offsets[:, 2:], beta=0.1)
    return confidence + BOX_WEIGHT * (place + size)

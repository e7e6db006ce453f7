"""Training of the synthetic grounder on drawn scenes: `fmit embedded train-grounder`.

Shapes: N scenes, T = N_OBJECTS_MAX objects of a scene (absent: kind -1, a box of zeros), Q = N * N_QUERIES queries, K
answers to a query (see onestage.network), S = SIZES.size_px.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from cache import keys
from cache.models import SYNTHETIC_GROUNDER
from cache.weights import EMBEDDED, save_safetensors
from pipeline.grounding.onestage.grounder import MEAN, PAD, STD, UNKNOWN, Vocabulary, architecture, letterbox, to_square
from pipeline.grounding.onestage.network import OneStage, Sizes, small_network
from synthetic import checkpoint, scenes
from synthetic.scenes import CUES, HEIGHT_PX, N_OBJECTS_MAX, WIDTH_PX, holds
from synthetic.shapes import KINDS

WEIGHTS = EMBEDDED / f"{SYNTHETIC_GROUNDER}.safetensors"
WORK = Path(".fmit/resume/grounder")  # what an interrupted training resumes from
TRAIN_SEED = 1  # of scenes.random_scene
WORDS = (PAD, UNKNOWN, *CUES, *KINDS)
ANCHORS = (  # tiny, normal, and prominent or huge objects at 128 / 160 of their size
    ((14.0, 18.0), (16.0, 16.0), (19.0, 14.0)),
    ((25.0, 33.0), (30.0, 30.0), (34.0, 26.0)),
    ((44.0, 44.0), (52.0, 66.0), (66.0, 54.0)),
)
_STAGES = ((48, 1), (96, 1), (128, 1), (128, 1))
SIZES = Sizes(size_px=128, stem=24, stem_stride=2, stages=_STAGES, width=96, anchors=ANCHORS)
N_TRAIN_SCENES = 12_000
N_STEPS = 4000
N_SCENES, N_QUERIES = 16, 4  # of a batch, and queries of a scene
RATE, DECAY = 2e-3, 1e-4  # of AdamW
WARM_UP = 0.03  # fraction of the steps during which the learning rate rises
SAVE_S = 30.0  # seconds of training that an interruption may lose
BOX_WEIGHT = 5.0  # of the box terms relative to the confidence term, as in the paper's code
CUE_PROB, KIND_PROB = 0.62, 0.27  # of a query for a cue, and for a kind alone; the others fit no single object
_FLIPPED = {"left": "right", "right": "left"}
FLIPPED_CUES = [CUES.index(_FLIPPED.get(cue, cue)) for cue in CUES]
_ANCHORS = np.array(ANCHORS)  # [scales, anchors of a scale, 2]


@dataclass(frozen=True)
class DrawnScenes:
    pixels: np.ndarray  # uint8 [N, HEIGHT_PX, WIDTH_PX, 3]
    boxes: np.ndarray  # int16 [N, T, 4]
    kinds: np.ndarray  # int8 [N, T]
    cues: np.ndarray  # bool [N, T, len(CUES)]: whether each cue is true of an object


def draw(seed: int, n: int) -> DrawnScenes:
    """The first n random scenes of a seed."""
    drawn = DrawnScenes(
        np.zeros((n, HEIGHT_PX, WIDTH_PX, 3), np.uint8),
        np.zeros((n, N_OBJECTS_MAX, 4), np.int16),
        np.full((n, N_OBJECTS_MAX), -1, np.int8),
        np.zeros((n, N_OBJECTS_MAX, len(CUES)), bool),
    )
    for row in range(n):
        scene = scenes.random_scene(seed, row)
        boxes = [item.box for item in scene.objects]
        drawn.pixels[row] = np.asarray(scenes.render(scene))
        for i, item in enumerate(scene.objects):
            drawn.boxes[row, i] = item.box.xyxy
            drawn.kinds[row, i] = KINDS.index(item.kind)
            drawn.cues[row, i] = [holds(cue, i, boxes) for cue in CUES]
    return drawn


class Batches:
    """Training batches from drawn scenes; batch `step` depends on (seed, step) only."""

    def __init__(self, drawn: DrawnScenes, seed: int) -> None:
        self.seed = seed
        self.kinds, self.cues = drawn.kinds, drawn.cues
        self.pixels = np.empty((len(drawn.kinds), 3, SIZES.size_px, SIZES.size_px), np.uint8)
        for row, pixels in enumerate(drawn.pixels):
            square, scale, offset = letterbox(Image.fromarray(pixels), SIZES.size_px)
            self.pixels[row] = np.rint((square * STD + MEAN) * 255)
        self.boxes = to_square(drawn.boxes.astype(np.float32), scale, offset)
        self.vocabulary = Vocabulary(WORDS)

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Images float32 [N, 3, S, S], words int64 [Q, W], and the `targets` of the queries."""
        rng = np.random.default_rng([self.seed, step])
        images, words, answers = [], [], []
        for row in rng.integers(len(self.pixels), size=N_SCENES):
            flip = rng.random() < 0.5
            pixels = self.pixels[row][rng.permutation(3)]
            images.append(pixels[:, :, ::-1] if flip else pixels)
            boxes, cues = self.boxes[row], self.cues[row]
            if flip:
                boxes = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [SIZES.size_px, 0, SIZES.size_px, 0]
                cues = cues[:, FLIPPED_CUES]
            for _ in range(N_QUERIES):
                text, objects = query(rng, self.kinds[row], cues)
                words.append(self.vocabulary.encode(text))
                answers.append(boxes[objects])
        pixels = torch.from_numpy(np.stack(images)).float()
        return (pixels / 255 - MEAN) / STD, torch.tensor(words), *targets(answers)


def query(rng: np.random.Generator, kinds: np.ndarray, cues: np.ndarray) -> tuple[str, list[int]]:
    """A random query for a scene with kinds [T] and cues [T, len(CUES)], and the objects that answer it.

    A cue decides, whatever kind it is given with. A kind of several objects, an absent kind and unknown words are
    answered by all objects that fit equally well, so their scores stay low.
    """
    present = [int(i) for i in np.flatnonzero(kinds >= 0)]
    cued = [(i, int(cue)) for i, cue in zip(*np.nonzero(cues), strict=True)]
    share = rng.random()
    if cued and share < CUE_PROB:
        i, cue = cued[rng.integers(len(cued))]
        words = [CUES[cue]]
        if rng.random() < 0.45:
            words.append(KINDS[kinds[i]] if rng.random() < 0.85 else str(rng.choice(KINDS)))
        return " ".join(words), [int(i)]
    if share < CUE_PROB + KIND_PROB:
        kind = kinds[rng.choice(present)]
    elif share < 1 - (1 - CUE_PROB - KIND_PROB) / 2:
        kind = rng.integers(len(KINDS))
    else:
        return UNKNOWN, present
    return KINDS[kind], [i for i in present if kinds[i] == kind] or present


def targets(answers: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """For the correct boxes of each query, [*, 4]: query and answer index int64 [M, 2], weight [M], offsets [M, 4].

    A box belongs to the anchor that overlaps it most, in the cell that contains its center (Yang et al., Section 3.3);
    the weights of a query sum to 1. Offsets: x and y in the cell, 0..1, and log of width and height over the anchor's.
    """
    index, weight, offsets = [], [], []
    for number, boxes in enumerate(answers):
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
            index.append((number, before + (y * n_cells + x) * len(SIZES.anchors[scale]) + anchor))
            weight.append(1 / len(boxes))
            offsets.append([*(cell - (x, y)), *np.log(side / _ANCHORS[scale, anchor])])
    return torch.tensor(index), torch.tensor(weight).float(), torch.tensor(np.array(offsets)).float()


def loss(network: OneStage, batch: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Cross-entropy over the K answers to a query, plus the error of the boxes' offsets at the correct answers."""
    images, words, index, weight, offsets = batch
    maps = [x.repeat_interleave(N_QUERIES, 0) for x in network.encode_images(images)]
    answers = network(maps, words)
    correct = answers[index[:, 0], index[:, 1]]
    confidence = -(answers[..., 4].log_softmax(1)[index[:, 0], index[:, 1]] * weight).sum() / len(words)
    place = F.smooth_l1_loss(torch.sigmoid(correct[:, :2]), offsets[:, :2], beta=0.1)
    size = F.smooth_l1_loss(correct[:, 2:4], offsets[:, 2:], beta=0.1)
    return confidence + BOX_WEIGHT * (place + size)


def schedule(share: float) -> float:
    """Factor on the learning rate after a share of the steps: linear warm-up, then half a cosine down to 0."""
    if share < WARM_UP:
        return (share + 0.1 * WARM_UP) / (1.1 * WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


def train(
    out: Path = WEIGHTS, *, work: Path = WORK, n_scenes: int = N_TRAIN_SCENES, n_steps: int = N_STEPS, seed: int = 0
) -> Iterator[tuple[int, float]]:
    """Train the grounder, yielding (step, loss); the weights are published at `out` after step `n_steps`.

    The same arguments give the same bytes, even if an interrupted call is repeated. About 30 minutes on one core.
    """
    batches = Batches(draw(TRAIN_SEED, n_scenes), seed)
    torch.manual_seed(seed)
    network = small_network(SIZES, len(WORDS)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    inputs = keys.key("grounder", n_scenes=n_scenes, n_steps=n_steps, seed=seed, drawings=scenes.DRAWN_VALUE)
    state, saved_s = work / f"{inputs}.safetensors", time.monotonic()
    progress = checkpoint.restore(state, {"network": network}, optimizer)
    for step in range(int(progress.get("step", 0)), n_steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * schedule(step / n_steps)
        value = loss(network, batches(step))
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        if time.monotonic() - saved_s > SAVE_S:
            checkpoint.save(state, {"network": network}, optimizer, {"step": str(step + 1)})
            saved_s = time.monotonic()
        yield step + 1, float(value.detach())
    tensors = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(out, tensors, architecture(SIZES, WORDS))
    state.unlink(missing_ok=True)

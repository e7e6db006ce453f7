"""Drawn training and test sets for the synthetic parts, kept in chunks so that a killed run draws none twice.

Shapes: N scenes, T = N_THINGS_MAX things a scene (absent ones: kind -1, box of zeros).

The training loop of the synthetic parts: batches depend on (seed, step) alone, a killed run goes on from its last save.

Training of `toy-onestage` on drawn scenes: what is asked of a scene, what the network should answer, the loss.

Shapes: N scenes, T things a scene, Q = N * N_ASKED queries, K answers a query (see onestage.network).

The synthetic parts, trained on drawings and measured on drawings that they never saw.

`fmit embedded train-toys` runs the two trainings, `fmit embedded score-toys` the measurement.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from cache import atomic, keys
from cache.weights import EMBEDDED, find, load_safetensors, save_safetensors
from pipeline.grounding.grounder import MEAN, STD, Grounder, ground_images, letterbox, to_square
from pipeline.grounding.onestage.grounder import PAD, UNKNOWN, Vocabulary, architecture, load_onestage
from pipeline.grounding.onestage.network import OneStage, Sizes
from synthetic import backbone_training, scenes, shapes
from synthetic.scenes import CUES, N_THINGS_MAX, TOY_TEST_SEED, TOY_TRAIN_SEED, Drawn, holds
from synthetic.shapes import KINDS
from vision.boxes import iou
from vision.toy_resnet import ToyResNet, load_toy_resnet

CHUNK = 500  # scenes a file
Progress = Callable[[int, int], None]


def draw(seed: int, n: int, folder: Path, progress: Progress | None = None) -> Drawn:
    """The first n scenes of a seed, n a multiple of CHUNK or less than one; chunks are kept in `folder`."""
    parts = []
    for start in range(0, n, CHUNK):
        parts.append(_chunk(seed, start, min(CHUNK, n - start), folder))
        if progress:
            progress(start + len(parts[-1]["kinds"]), n)
    return Drawn(*(np.concatenate([part[name] for part in parts]) for name in ("pixels", "boxes", "kinds", "cues")))


def source_digest() -> str:
    """Digest of the code that draws: other drawings, another digest."""
    files = (scenes.__file__, scenes.__file__, shapes.__file__)
    return keys.key("drawing code", files=[keys.digest_file(name) for name in files])


def _chunk(seed: int, start: int, n: int, folder: Path) -> dict[str, np.ndarray]:
    path = folder / f"scenes-{source_digest()[:12]}-{seed}-{start}-{n}.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        rows = [_row(seed, k) for k in range(start, start + n)]
        columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        with atomic.file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **columns)
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _row(seed: int, k: int) -> dict[str, np.ndarray]:
    scene = scenes.random_scene(seed, k)
    boxes = [thing.box for thing in scene.things]
    row = {
        "pixels": np.asarray(scenes.render(scene)),
        "boxes": np.zeros((N_THINGS_MAX, 4), np.int16),
        "kinds": np.full(N_THINGS_MAX, -1, np.int8),
        "cues": np.zeros((N_THINGS_MAX, len(CUES)), bool),
    }
    for i, thing in enumerate(scene.things):
        row["boxes"][i] = thing.box.xyxy
        row["kinds"][i] = KINDS.index(thing.kind)
        row["cues"][i] = [holds(cue, i, boxes) for cue in CUES]
    return row


SAVE_S = 30.0  # seconds of training that a killed run may lose
WARM_UP = 0.03  # part of the steps during which the learning rate rises
_MODEL, _STATE = "model.", "state."


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step taken: `step` counts from 1."""

    step: int
    n_steps: int
    loss: float


def fit(
    network: nn.Module, loss_at: Callable[[int], Tensor], *, n_steps: int, rate: float, decay: float, checkpoint: Path
) -> Iterator[StepResult]:
    """Train in place with AdamW under a cosine schedule, yielding every step; resumes from `checkpoint`.

    `loss_at(step)` draws its batch from the step's number, so that a resumed run equals an unbroken one.
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    first = _resume(network, optimiser, checkpoint)
    network.train()
    saved = time.monotonic()
    for step in range(first, n_steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * schedule(step / n_steps)
        loss = loss_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        if time.monotonic() - saved > SAVE_S:
            save(network, optimiser, step + 1, checkpoint)
            saved = time.monotonic()
        yield StepResult(step + 1, n_steps, float(loss.detach()))


def schedule(share: float) -> float:
    """Factor of the learning rate after a share of the steps: linear warm-up, then half a cosine down to 0."""
    if share < WARM_UP:
        return (share + 0.1 * WARM_UP) / (1.1 * WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


def save(network: nn.Module, optimiser: torch.optim.Optimizer, step: int, checkpoint: Path) -> None:
    """Publish all that `fit` resumes from."""
    tensors = {_MODEL + name: value.detach().numpy() for name, value in network.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"{_STATE}{index}.{name}"] = value.detach().numpy()
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(checkpoint, tensors, {"step": str(step)})


def _resume(network: nn.Module, optimiser: torch.optim.Optimizer, checkpoint: Path) -> int:
    if not checkpoint.is_file():
        return 0
    tensors, metadata = load_safetensors(checkpoint)
    own = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    network.load_state_dict({n.removeprefix(_MODEL): value for n, value in own.items() if n.startswith(_MODEL)})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in own.items():
        if name.startswith(_STATE):
            index, field = name.removeprefix(_STATE).split(".", 1)
            state.setdefault(int(index), {})[field] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(metadata["step"])


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


GROUNDER, RESNET = "toy-onestage", "toy-resnet"
WORK = Path(".fmit/resume/toys")  # drawn sets and what a killed training goes on from
N_TEST_SCENES = 12_000  # drawn for training
GROUNDER_STEPS, RESNET_STEPS = 4000, 2500
GROUNDER_RATE, RESNET_RATE = 2e-3, 3e-3  # of AdamW
DECAY = 1e-4
HIT_IOU = 0.5  # at which a box counts as right


def train_grounder(
    out: Path = EMBEDDED / f"{GROUNDER}.safetensors",
    *,
    work: Path = WORK,
    n_scenes: int = N_TEST_SCENES,
    n_steps: int = GROUNDER_STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Iterator[StepResult]:
    """Train `toy-onestage`, step by step; the weights are published at `out` after the last one.

    Same arguments, same bytes, also when killed between and run again. About 30 minutes on one core.
    """
    batches = Batches(draw(TOY_TRAIN_SEED, n_scenes, work, progress), seed)
    torch.manual_seed(seed)
    network = OneStage(SIZES, len(WORDS))

    def loss_at(step: int) -> Tensor:
        return loss(network, batches(step))

    checkpoint = _checkpoint(work, GROUNDER, n_scenes, n_steps, seed)
    yield from fit(network, loss_at, n_steps=n_steps, rate=GROUNDER_RATE, decay=DECAY, checkpoint=checkpoint)
    _publish(out, network, architecture(SIZES, WORDS))
    checkpoint.unlink(missing_ok=True)


def train_resnet(
    out: Path = EMBEDDED / f"{RESNET}.safetensors",
    *,
    work: Path = WORK,
    n_scenes: int = N_TEST_SCENES,
    n_steps: int = RESNET_STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Iterator[StepResult]:
    """Train `toy-resnet`, as `train_grounder` does. About 15 minutes on one core."""
    batches = backbone_training.Batches(draw(TOY_TRAIN_SEED, n_scenes, work, progress), seed)
    torch.manual_seed(seed)
    network = ToyResNet(len(KINDS), backbone_training.DIM)

    def loss_at(step: int) -> Tensor:
        return backbone_training.loss(network, batches(step))

    checkpoint = _checkpoint(work, RESNET, n_scenes, n_steps, seed)
    yield from fit(network, loss_at, n_steps=n_steps, rate=RESNET_RATE, decay=DECAY, checkpoint=checkpoint)
    _publish(out, network, {"kinds": json.dumps(KINDS), "dim": str(backbone_training.DIM)})
    checkpoint.unlink(missing_ok=True)


def score(n: int = 1000, *, folder: Path = EMBEDDED, work: Path = WORK) -> dict[str, float]:
    """Both toys on n unseen scenes (TOY_TEST_SEED): shares of 1, and how many questions they are taken over.

    Boxes: one query for each thing with a clear place or size, else for its kind where that is the only one.
    `random_box` draws boxes blindly, `random_thing` picks one of the scene's things. Kinds: crops of the things' own
    boxes, and of boxes jittered to an IoU of 0.5.
    """
    drawn = draw(TOY_TEST_SEED, n, work)
    grounder = load_onestage(find(folder / f"{GROUNDER}.safetensors"), GROUNDER, synthetic=True)
    return {**score_boxes(grounder, drawn), **score_kinds(folder, drawn)}


def score_boxes(grounder: Grounder, drawn: Drawn) -> dict[str, float]:
    """Accuracy at IoU 0.5 of a grounder, by what was asked, beside three that do not look."""
    rng = np.random.default_rng([TOY_TEST_SEED, len(drawn)])
    asked = [questions(rng, drawn.kinds[row], drawn.cues[row]) for row in range(len(drawn))]
    images = [PIL.Image.fromarray(pixels) for pixels in drawn.pixels]
    answers = ground_images(grounder, images, [[text for _, text in row] for row in asked])
    height, width = drawn.pixels.shape[1:3]
    hits: dict[str, list[bool]] = {}
    for row, (pairs, found) in enumerate(zip(asked, answers, strict=True)):
        present = np.flatnonzero(drawn.kinds[row] >= 0)
        for (thing, text), answer in zip(pairs, found, strict=True):
            gold = drawn.boxes[row, thing]
            topic = next((word for word in text.split() if word in CUES), "kind")
            boxes = {
                "box": answer.xyxy,
                f"box_{topic}": answer.xyxy,
                "whole_image": (0, 0, width, height),
                "random_box": _random_box(rng, width, height),
                "random_thing": drawn.boxes[row, rng.choice(present)].tolist(),
            }
            for name, box in boxes.items():
                hits.setdefault(f"{name}_acc_50", []).append(iou(gold.tolist(), box) >= HIT_IOU)
    return {"n_questions": len(hits["box_acc_50"]), **{name: float(np.mean(hit)) for name, hit in hits.items()}}


def score_kinds(folder: Path, drawn: Drawn) -> dict[str, float]:
    """Share of kinds that `toy-resnet` tells from crops of a drawn set."""
    network, kinds = load_toy_resnet(find(folder / f"{RESNET}.safetensors"))
    rng = np.random.default_rng([TOY_TEST_SEED, len(drawn), 1])
    height, width = drawn.pixels.shape[1:3]
    things = np.argwhere(drawn.kinds >= 0)
    pixels = [drawn.pixels[scene] for scene, _ in things]
    gold = [drawn.boxes[scene, thing] for scene, thing in things]
    truth = np.array([KINDS[drawn.kinds[scene, thing]] for scene, thing in things])

    def accuracy(least_iou: float) -> float:
        x = backbone_training.crops(
            pixels, [backbone_training.jitter(rng, box, width, height, least_iou) for box in gold]
        )
        with torch.inference_mode():
            told = torch.cat([network(part).argmax(1) for part in x.split(128)])
        return float((np.array(kinds)[told.numpy()] == truth).mean())

    return {
        "n_crops": len(things),
        "kind_accuracy": accuracy(1.0),
        "kind_accuracy_jittered": accuracy(backbone_training.LEAST_IOU),
    }


def questions(rng: np.random.Generator, kinds: np.ndarray, cues: np.ndarray) -> list[tuple[int, str]]:
    """(thing, query) of a scene with kinds [T] and cues [T, len(CUES)]: cues among unknown words, or the kind."""
    asked = []
    for thing in np.flatnonzero(kinds >= 0):
        told, kind = np.flatnonzero(cues[thing]), KINDS[kinds[thing]]
        if len(told):
            words = [CUES[rng.choice(told)], *(["Xanthe", "of", "Quorra"][: rng.integers(0, 4)])]
            asked.append((int(thing), " ".join([*words, kind] if rng.random() < 0.3 else words)))
        elif (kinds == kinds[thing]).sum() == 1:
            asked.append((int(thing), f"the {kind}"))
    return asked


def _random_box(rng: np.random.Generator, width: int, height: int) -> tuple[float, ...]:
    (x0, x1), (y0, y1) = np.sort(rng.uniform(0, width, 2)), np.sort(rng.uniform(0, height, 2))
    return x0, y0, x1, y1


def _checkpoint(work: Path, name: str, n_scenes: int, n_steps: int, seed: int) -> Path:
    code = source_digest()
    inputs = keys.key("synthetic training", name=name, n_scenes=n_scenes, n_steps=n_steps, seed=seed, code=code)
    return work / f"{name}-{inputs[:12]}.safetensors"


def _publish(out: Path, network: nn.Module, metadata: dict[str, str]) -> None:
    tensors = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(out, tensors, metadata)

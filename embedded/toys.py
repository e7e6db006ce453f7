"""The toy parts, trained on drawings and measured on drawings that they never saw.

`fmit embedded train-toys` runs the two trainings, `fmit embedded score-toys` the measurement.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from cache import keys
from cache.weights import EMBEDDED, find, save_safetensors
from embedded import toy_data, toy_grounder, toy_kinds
from embedded.placing import CUES
from embedded.scenes import TOY_TEST_SEED, TOY_TRAIN_SEED
from embedded.shapes import KINDS
from embedded.toy_fit import StepResult, fit
from pipeline.grounding.grounder import Grounder, ground_images
from pipeline.grounding.onestage import OneStage
from pipeline.grounding.onestage_grounder import architecture, load_onestage
from vision.boxes import iou
from vision.toy_resnet import ToyResNet, load_toy_resnet

GROUNDER, RESNET = "toy-onestage", "toy-resnet"
WORK = Path(".fmit/resume/toys")  # drawn sets and what a killed training goes on from
N_SCENES = 12_000  # drawn for training
GROUNDER_STEPS, RESNET_STEPS = 4000, 2500
GROUNDER_RATE, RESNET_RATE = 2e-3, 3e-3  # of AdamW
DECAY = 1e-4
HIT_IOU = 0.5  # at which a box counts as right


def train_grounder(
    out: Path = EMBEDDED / f"{GROUNDER}.safetensors",
    *,
    work: Path = WORK,
    n_scenes: int = N_SCENES,
    n_steps: int = GROUNDER_STEPS,
    seed: int = 0,
    progress: toy_data.Progress | None = None,
) -> Iterator[StepResult]:
    """Train `toy-onestage`, step by step; the weights are published at `out` after the last one.

    Same arguments, same bytes, also when killed between and run again. About 30 minutes on one core.
    """
    batches = toy_grounder.Batches(toy_data.draw(TOY_TRAIN_SEED, n_scenes, work, progress), seed)
    torch.manual_seed(seed)
    network = OneStage(toy_grounder.SIZES, len(toy_grounder.WORDS))

    def loss_at(step: int) -> Tensor:
        return toy_grounder.loss(network, batches(step))

    checkpoint = _checkpoint(work, GROUNDER, n_scenes, n_steps, seed)
    yield from fit(network, loss_at, n_steps=n_steps, rate=GROUNDER_RATE, decay=DECAY, checkpoint=checkpoint)
    _publish(out, network, architecture(toy_grounder.SIZES, toy_grounder.WORDS))
    checkpoint.unlink(missing_ok=True)


def train_resnet(
    out: Path = EMBEDDED / f"{RESNET}.safetensors",
    *,
    work: Path = WORK,
    n_scenes: int = N_SCENES,
    n_steps: int = RESNET_STEPS,
    seed: int = 0,
    progress: toy_data.Progress | None = None,
) -> Iterator[StepResult]:
    """Train `toy-resnet`, as `train_grounder` does. About 15 minutes on one core."""
    batches = toy_kinds.Batches(toy_data.draw(TOY_TRAIN_SEED, n_scenes, work, progress), seed)
    torch.manual_seed(seed)
    network = ToyResNet(len(KINDS), toy_kinds.DIM)

    def loss_at(step: int) -> Tensor:
        return toy_kinds.loss(network, batches(step))

    checkpoint = _checkpoint(work, RESNET, n_scenes, n_steps, seed)
    yield from fit(network, loss_at, n_steps=n_steps, rate=RESNET_RATE, decay=DECAY, checkpoint=checkpoint)
    _publish(out, network, {"kinds": json.dumps(KINDS), "dim": str(toy_kinds.DIM)})
    checkpoint.unlink(missing_ok=True)


def score(n: int = 1000, *, folder: Path = EMBEDDED, work: Path = WORK) -> dict[str, float]:
    """Both toys on n unseen scenes (TOY_TEST_SEED): shares of 1, and how many questions they are taken over.

    Boxes: one query for each thing with a clear place or size, else for its kind where that is the only one.
    `random_box` draws boxes blindly, `random_thing` picks one of the scene's things. Kinds: crops of the things' own
    boxes, and of boxes jittered to an IoU of 0.5.
    """
    drawn = toy_data.draw(TOY_TEST_SEED, n, work)
    grounder = load_onestage(find(folder / f"{GROUNDER}.safetensors"), GROUNDER, toy=True)
    return {**score_boxes(grounder, drawn), **score_kinds(folder, drawn)}


def score_boxes(grounder: Grounder, drawn: toy_data.Drawn) -> dict[str, float]:
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


def score_kinds(folder: Path, drawn: toy_data.Drawn) -> dict[str, float]:
    """Share of kinds that `toy-resnet` tells from crops of a drawn set."""
    network, kinds = load_toy_resnet(find(folder / f"{RESNET}.safetensors"))
    rng = np.random.default_rng([TOY_TEST_SEED, len(drawn), 1])
    height, width = drawn.pixels.shape[1:3]
    things = np.argwhere(drawn.kinds >= 0)
    pixels = [drawn.pixels[scene] for scene, _ in things]
    gold = [drawn.boxes[scene, thing] for scene, thing in things]
    truth = np.array([KINDS[drawn.kinds[scene, thing]] for scene, thing in things])

    def accuracy(least_iou: float) -> float:
        x = toy_kinds.crops(pixels, [toy_kinds.jitter(rng, box, width, height, least_iou) for box in gold])
        with torch.inference_mode():
            told = torch.cat([network(part).argmax(1) for part in x.split(128)])
        return float((np.array(kinds)[told.numpy()] == truth).mean())

    return {
        "n_crops": len(things),
        "kind_accuracy": accuracy(1.0),
        "kind_accuracy_jittered": accuracy(toy_kinds.LEAST_IOU),
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
    code = toy_data.source_digest()
    inputs = keys.key("toy training", name=name, n_scenes=n_scenes, n_steps=n_steps, seed=seed, code=code)
    return work / f"{name}-{inputs[:12]}.safetensors"


def _publish(out: Path, network: nn.Module, metadata: dict[str, str]) -> None:
    tensors = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(out, tensors, metadata)

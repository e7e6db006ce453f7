"""Accuracy of the synthetic grounder's boxes on drawn scenes that it was not trained on.

python -m bench.synthetic_grounder --scenes 1000
"""

from __future__ import annotations

import click
import numpy as np
from PIL import Image

from pipeline.grounding.grounder import Grounder, ground_images
from pipeline.grounding.onestage.grounder import load_synthetic
from synthetic.grounder_training import WEIGHTS, DrawnScenes, draw
from synthetic.scenes import CUES, HEIGHT_PX, WIDTH_PX
from synthetic.shapes import KINDS
from vision.crops import iou

TEST_SEED = 2  # of scenes.random_scene; training uses another
HIT_IOU = 0.5  # at which a box counts as right


def score_boxes(grounder: Grounder, drawn: DrawnScenes) -> dict[str, float]:
    """Accuracy at IoU 0.5 of a grounder, by the kind of query, beside three baselines that ignore the image.

    One query for each object with a clear place or size, else for its kind where that is unique in the scene.
    `random_box` draws a box at random, `random_object` picks one of the scene's objects.
    """
    rng = np.random.default_rng([TEST_SEED, len(drawn.kinds)])
    asked = [questions(rng, kinds, cues) for kinds, cues in zip(drawn.kinds, drawn.cues, strict=True)]
    images = [Image.fromarray(pixels) for pixels in drawn.pixels]
    answers = ground_images(grounder, images, [[text for _, text in row] for row in asked])
    hits: dict[str, list[bool]] = {}
    for row, (pairs, found) in enumerate(zip(asked, answers, strict=True)):
        present = np.flatnonzero(drawn.kinds[row] >= 0)
        for (item, text), answer in zip(pairs, found, strict=True):
            topic = next((word for word in text.split() if word in CUES), "kind")
            (x0, x1), (y0, y1) = np.sort(rng.uniform(0, WIDTH_PX, 2)), np.sort(rng.uniform(0, HEIGHT_PX, 2))
            boxes = {
                "box": answer.xyxy,
                f"box_{topic}": answer.xyxy,
                "whole_image": (0, 0, WIDTH_PX, HEIGHT_PX),
                "random_box": (x0, y0, x1, y1),
                "random_object": drawn.boxes[row, rng.choice(present)].tolist(),
            }
            gold = drawn.boxes[row, item].tolist()
            for name, box in boxes.items():
                hits.setdefault(f"{name}_acc_50", []).append(iou(gold, box) >= HIT_IOU)
    return {"n_questions": len(hits["box_acc_50"]), **{name: float(np.mean(hit)) for name, hit in hits.items()}}


def questions(rng: np.random.Generator, kinds: np.ndarray, cues: np.ndarray) -> list[tuple[int, str]]:
    """(object, query) of a scene with kinds [T] and cues [T, len(CUES)]: a cue among unknown words, or the kind."""
    found = []
    for item in np.flatnonzero(kinds >= 0):
        true, kind = np.flatnonzero(cues[item]), KINDS[kinds[item]]
        if len(true):
            words = [CUES[rng.choice(true)], *(["Xanthe", "of", "Quorra"][: rng.integers(0, 4)])]
            found.append((int(item), " ".join([*words, kind] if rng.random() < 0.3 else words)))
        elif (kinds == kinds[item]).sum() == 1:
            found.append((int(item), f"the {kind}"))
    return found


@click.command(help=__doc__)
@click.option("--scenes", default=1000, show_default=True, help="Number of scenes to draw.")
def main(scenes: int) -> None:
    for name, value in score_boxes(load_synthetic(WEIGHTS), draw(TEST_SEED, scenes)).items():
        click.echo(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()

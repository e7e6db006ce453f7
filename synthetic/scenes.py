"""Drawn scenes: up to four objects on a textured background, some distinguished by a word for place or size (a cue).

A scene depends on its random generator only. `random_scene` draws those that train or score the synthetic grounder;
`dataset_rng` is the generator of the synthetic dataset's scenes. The two never share a generator.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image as Images
from PIL import PngImagePlugin

from schema.records import Box
from synthetic.shapes import KINDS, RGB, Look, sprite
from vision.images import DRAWN_KEY

DRAWN_VALUE = "1"  # version of the drawings
TRAINING_STREAM, DATASET_STREAM = 7001, 7002  # first number of a generator's seed: training and datasets share none

CUES = ("left", "right", "upper", "lower", "tiny", "huge")
SIZES = ("tiny", "huge")
N_OBJECTS_MAX = 4
WIDTH_PX, HEIGHT_PX = 160, 128

# An object's size is the square root of its area, in pixels.
TINY_PX, NORMAL_PX, PROMINENT_PX, HUGE_PX = (19.0, 23.0), (31.0, 44.0), (50.0, 58.0), (68.0, 80.0)
EDGE_PX = 2  # a box keeps this distance from the image's edge, and GAP_PX from other boxes
GAP_PX = 2
NEAR = 0.34  # the leftmost object's center lies within this part of the width; likewise for the other places
CLEAR = 0.20  # and this part of the width away from every other center


class ObjectSpec(NamedTuple):
    """An object to compose: its kind, and the cue that must be true of it only (None: no cue)."""

    kind: str
    cue: str | None = None


class DrawnObject(NamedTuple):
    """A drawn object; `box` bounds its visible pixels."""

    kind: str
    cue: str | None
    box: Box
    look: Look


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What `render` draws: the background, uint8 [HEIGHT_PX, WIDTH_PX, 3], then the objects in order."""

    objects: tuple[DrawnObject, ...]
    background: np.ndarray


def dataset_rng(seed: int, k: int) -> np.random.Generator:
    """Generator of the scene of a synthetic dataset's k-th post."""
    return np.random.default_rng([DATASET_STREAM, seed, k])


def random_scene(seed: int, k: int) -> Scene:
    """Scene k of a seed, for training and scoring: 1 to 4 objects, some with cues."""
    rng = np.random.default_rng([TRAINING_STREAM, seed, k])
    n_objects = int(rng.choice([1, 2, 3, 4], p=[0.1, 0.35, 0.35, 0.2]))
    cues = rng.permutation(CUES)[:n_objects].tolist()
    kinds = rng.choice(KINDS, n_objects).tolist()
    specs = [ObjectSpec(kind, cue if rng.random() < 0.75 else None) for kind, cue in zip(kinds, cues, strict=True)]
    return compose(rng, specs)


def compose(rng: np.random.Generator, specs: Sequence[ObjectSpec]) -> Scene:
    """A scene with at most N_OBJECTS_MAX objects in order; a cue (each at most once) is true of its own object only."""
    background, colour = _background(rng)
    looks = [_look(rng, colour) for _ in specs]
    shapes = [sprite(spec.kind, look).size for spec, look in zip(specs, looks, strict=True)]
    boxes = place(rng, specs, shapes)
    drawn = (DrawnObject(spec.kind, spec.cue, box, look) for spec, box, look in zip(specs, boxes, looks, strict=True))
    return Scene(tuple(drawn), background)


def place(rng: np.random.Generator, specs: Sequence[ObjectSpec], shapes: Sequence[tuple[int, int]]) -> list[Box]:
    """Boxes for objects with these shapes (width, height), by rejection; cues decide sizes, which shrink as needed."""
    is_sized = any(spec.cue in SIZES for spec in specs)
    squeeze = 1.0
    while True:
        sizes = []
        for spec, (width, height) in zip(specs, shapes, strict=True):
            low, high = {"tiny": TINY_PX, "huge": HUGE_PX}.get(spec.cue or "", NORMAL_PX)
            if not is_sized and rng.random() < 0.2:
                low, high = PROMINENT_PX
            scale = (low + squeeze * rng.uniform(0, high - low)) / math.sqrt(width * height)
            sizes.append((round(width * scale), round(height * scale)))
        for _ in range(20):
            boxes = [_random_box(rng, spec.cue, *size) for spec, size in zip(specs, sizes, strict=True)]
            are_apart = not any(_touch(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
            if are_apart and all(holds(spec.cue, i, boxes) for i, spec in enumerate(specs) if spec.cue):
                return boxes
        squeeze *= 0.9


def _random_box(rng: np.random.Generator, cue: str | None, width: int, height: int) -> Box:
    """A box of this size; if the cue is a place, its center is in that part of the image."""
    corner = []
    for side, whole, low_cue, high_cue in (width, WIDTH_PX, "left", "right"), (height, HEIGHT_PX, "upper", "lower"):
        first, last = (1 - NEAR) * (cue == high_cue), NEAR if cue == low_cue else 1
        low = max(EDGE_PX, math.ceil(first * whole - side / 2))
        high = min(whole - EDGE_PX - side, math.floor(last * whole - side / 2))
        corner.append(int(rng.integers(low, max(low, high) + 1)))
    x0, y0 = corner
    return Box(x0, y0, x0 + width, y0 + height)


def _touch(a: Box, b: Box) -> bool:
    """Whether two boxes are closer than GAP_PX."""
    return a.x0 < b.x1 + GAP_PX and b.x0 < a.x1 + GAP_PX and a.y0 < b.y1 + GAP_PX and b.y0 < a.y1 + GAP_PX


def holds(cue: str, index: int, boxes: Sequence[Box]) -> bool:
    """Whether a cue is clearly true of boxes[index], and so of no other: see NEAR, CLEAR and the sizes."""
    mine, *others = (_measure(cue, box) for box in (boxes[index], *boxes[:index], *boxes[index + 1 :]))
    if cue == "tiny":
        return mine <= TINY_PX[1] + 1 and all(mine * 1.25 <= other for other in others)
    if cue == "huge":
        return mine >= HUGE_PX[0] - 1 and all(mine >= other * 1.25 for other in others)
    return mine <= NEAR + 0.01 and all(mine + CLEAR <= other for other in others)


def _measure(cue: str, box: Box) -> float:
    """A box's size in pixels, or for a place the distance of its center from that side, as a part of the whole side."""
    if cue in SIZES:
        return math.sqrt((box.x1 - box.x0) * (box.y1 - box.y0))
    centre = (box.x0 + box.x1) / 2 / WIDTH_PX if cue in ("left", "right") else (box.y0 + box.y1) / 2 / HEIGHT_PX
    return 1 - centre if cue in ("right", "lower") else centre


def render(scene: Scene) -> Images.Image:
    """The RGB image of a scene; the same scene gives the same pixels."""
    image = Images.fromarray(scene.background, "RGB")
    for item in scene.objects:
        x0, y0, x1, y1 = item.box.xyxy
        drawn = sprite(item.kind, item.look).resize((x1 - x0, y1 - y0), Images.Resampling.BICUBIC)
        image.paste(drawn.convert("RGB"), (x0, y0), drawn.getchannel("A"))
    return image


def png_bytes(scene: Scene) -> bytes:
    """A PNG file whose DRAWN_KEY chunk marks it as drawn by this project; the same scene gives the same bytes."""
    chunks, data = PngImagePlugin.PngInfo(), io.BytesIO()
    chunks.add_text(DRAWN_KEY, DRAWN_VALUE)
    render(scene).save(data, "PNG", pnginfo=chunks, compress_level=6)
    return data.getvalue()


def _background(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A gradient between two colors with a mild texture, uint8 [HEIGHT_PX, WIDTH_PX, 3], and its mean color."""
    first, change = rng.integers(40, 216, 3), rng.integers(-45, 46, 3)
    second = np.clip(first + change, 0, 255)
    angle, grain_px = rng.uniform(0, 2 * math.pi), int(rng.integers(1, 12))
    deviation, texture_rng = rng.uniform(2, 9), np.random.default_rng(int(rng.integers(2**31)))
    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX]
    along = (x / WIDTH_PX - 0.5) * math.cos(angle) + (y / HEIGHT_PX - 0.5) * math.sin(angle)
    share = np.clip(along / math.sqrt(2) + 0.5, 0, 1)[..., None]
    cells = texture_rng.normal(128, 4 * deviation, (-(-HEIGHT_PX // grain_px), -(-WIDTH_PX // grain_px)))
    coarse = Images.fromarray(np.clip(cells, 0, 255).astype(np.uint8), "L")
    texture = (np.asarray(coarse.resize((WIDTH_PX, HEIGHT_PX), Images.Resampling.BILINEAR)).astype(float) - 128) / 4
    pixels = first * (1 - share) + second * share + texture[..., None]
    return np.clip(pixels, 0, 255).astype(np.uint8), (first + second) / 2


def _look(rng: np.random.Generator, background: np.ndarray) -> Look:
    fill = _distinct_colour(rng, background)
    accent = _distinct_colour(rng, fill)
    ink = _distinct_colour(rng, fill, accent)
    ink_width, turn = float(rng.choice([0.0, 2.5, 4.0, 6.0])), float(rng.uniform(-16, 16))
    flip, wobble, stretch = bool(rng.random() < 0.5), float(rng.random()), float(rng.uniform(0.85, 1.18))
    return Look(fill, accent, ink, ink_width, turn, flip, wobble, stretch)


def _distinct_colour(rng: np.random.Generator, *others: np.ndarray | RGB) -> RGB:
    """A random color at a weighted distance from the others; the required distance shrinks until one fits."""
    weights = np.array([0.8, 1.1, 0.6])  # green has the greatest share of luminance
    distance = 95.0
    while True:
        colour = rng.integers(0, 256, 3).astype(float)
        if all(np.linalg.norm((colour - other) * weights) >= distance for other in others):
            red, green, blue = map(int, colour)
            return red, green, blue
        distance *= 0.97

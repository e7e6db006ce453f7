"""Drawn scenes: up to four things before a textured background, some told apart by a word of place or size.

A scene depends only on its random generator. Scenes that train or measure the synthetic parts come from `random_scene`,
those of smoke shards from `shard_rng`; the two never share a generator.

Where the things of a scene stand: boxes of which each given word of place or size is true exactly once.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Images
from PIL import PngImagePlugin

from cache import atomic
from schema.errors import DataError
from schema.records import Box
from synthetic.shapes import KINDS, RGB, Look, sprite
from vision.images import DRAWN_KEY

PLACES = ("left", "right", "upper", "lower")
SIZES = ("tiny", "huge")
CUES = PLACES + SIZES
N_THINGS_MAX = 4
WIDTH_PX, HEIGHT_PX = 160, 128

# A thing's size is the side of the square of its area, in pixels.
TINY_PX, NORMAL_PX, PROMINENT_PX, HUGE_PX = (19.0, 23.0), (31.0, 44.0), (50.0, 58.0), (68.0, 80.0)
EDGE_PX = 2  # a box keeps clear of the image's edge, and of other boxes by GAP_PX
GAP_PX = 2
NEAR = 0.34  # the leftmost thing's centre lies within this part of the width; so for the other places
CLEAR = 0.20  # and this part of the width away from every other centre


@dataclass(frozen=True, slots=True)
class Wanted:
    """A thing to compose: its kind, and the word that must be true of it alone (None: no word)."""

    kind: str
    cue: str | None = None


def check(wanted: Sequence[Wanted]) -> None:
    """Raise DataError for more than N_THINGS_MAX things, an unknown kind or cue, or a cue given twice."""
    if len(wanted) > N_THINGS_MAX:
        raise DataError(f"a scene holds at most {N_THINGS_MAX} things", found=str(len(wanted)))
    for want in wanted:
        if want.kind not in KINDS:
            raise DataError("unknown kind of thing", found=repr(want.kind), todo=f"use one of {', '.join(KINDS)}")
        if want.cue is not None and want.cue not in CUES:
            raise DataError("unknown cue", found=repr(want.cue), todo=f"use one of {', '.join(CUES)}")
    cues = [want.cue for want in wanted if want.cue is not None]
    if len(cues) != len(set(cues)):
        raise DataError("a cue can be true of one thing only", found=", ".join(cues))


def place(rng: np.random.Generator, wanted: Sequence[Wanted], shapes: Sequence[tuple[int, int]]) -> list[Box]:
    """Boxes by rejection; the range of sizes shrinks towards its lower end, so that the search ends."""
    squeeze = 1.0
    while True:
        sizes = [_sides(rng, want, wanted, shape, squeeze) for want, shape in zip(wanted, shapes, strict=True)]
        for _ in range(20):
            boxes = [_drop(rng, want, width, height) for want, (width, height) in zip(wanted, sizes, strict=True)]
            if _apart(boxes) and all(holds(want.cue, i, boxes) for i, want in enumerate(wanted) if want.cue):
                return boxes
        squeeze *= 0.9


def _sides(
    rng: np.random.Generator, want: Wanted, wanted: Sequence[Wanted], shape: tuple[int, int], squeeze: float
) -> tuple[int, int]:
    """Width and height of a thing of this shape, by its cue or at random where size tells nothing."""
    sized = any(other.cue in SIZES for other in wanted)
    low, high = {"tiny": TINY_PX, "huge": HUGE_PX}.get(want.cue or "", NORMAL_PX)
    if not sized and rng.random() < 0.2:
        low, high = PROMINENT_PX
    scale = (low + squeeze * rng.uniform(0, high - low)) / math.sqrt(shape[0] * shape[1])
    return round(shape[0] * scale), round(shape[1] * scale)


def _drop(rng: np.random.Generator, want: Wanted, width: int, height: int) -> Box:
    """A box of this size at random, within the cue's part of the image where that is a place."""
    reach = {"left": (0, NEAR), "right": (1 - NEAR, 1)}.get(want.cue or "", (0, 1))
    x0 = _start(rng, reach, width, WIDTH_PX)
    reach = {"upper": (0, NEAR), "lower": (1 - NEAR, 1)}.get(want.cue or "", (0, 1))
    y0 = _start(rng, reach, height, HEIGHT_PX)
    return Box(x0, y0, x0 + width, y0 + height)


def _start(rng: np.random.Generator, reach: tuple[float, float], side: int, whole: int) -> int:
    low = max(EDGE_PX, math.ceil(reach[0] * whole - side / 2))
    high = min(whole - EDGE_PX - side, math.floor(reach[1] * whole - side / 2))
    return int(rng.integers(low, max(low, high) + 1))


def _apart(boxes: Sequence[Box]) -> bool:
    return not any(
        a.x0 < b.x1 + GAP_PX and b.x0 < a.x1 + GAP_PX and a.y0 < b.y1 + GAP_PX and b.y0 < a.y1 + GAP_PX
        for i, a in enumerate(boxes)
        for b in boxes[:i]
    )


def holds(cue: str, index: int, boxes: Sequence[Box], *, width: int = WIDTH_PX, height: int = HEIGHT_PX) -> bool:
    """Whether a cue is clearly true of boxes[index] and so of no other: see NEAR, CLEAR and the sizes."""
    others = [box for i, box in enumerate(boxes) if i != index]
    me = boxes[index]
    if cue in SIZES:
        mine, *theirs = (_size(box) for box in (me, *others))
        if cue == "tiny":
            return mine <= TINY_PX[1] + 1 and all(mine * 1.25 <= size for size in theirs)
        return mine >= HUGE_PX[0] - 1 and all(mine >= size * 1.25 for size in theirs)
    mine, *theirs = (_centre(box, cue, width, height) for box in (me, *others))
    if cue in ("right", "lower"):
        mine, theirs = 1 - mine, [1 - value for value in theirs]
    return mine <= NEAR + 0.01 and all(mine + CLEAR <= value for value in theirs)


def _centre(box: Box, cue: str, width: int, height: int) -> float:
    """Share of the width (of the height for upper and lower) at which the box's centre lies."""
    return (box.x0 + box.x1) / 2 / width if cue in ("left", "right") else (box.y0 + box.y1) / 2 / height


def _size(box: Box) -> float:
    return math.sqrt((box.x1 - box.x0) * (box.y1 - box.y0))


__all__ = [
    "CUES",
    "HEIGHT_PX",
    "KINDS",
    "N_THINGS_MAX",
    "PLACES",
    "SIZES",
    "WIDTH_PX",
    "Background",
    "Scene",
    "Thing",
    "Wanted",
    "compose",
    "holds",
    "png_bytes",
    "random_scene",
    "render",
    "save_png",
    "shard_rng",
    "toy_rng",
]

DRAWN_VALUE = "1"  # version of the drawings
TOY_TRAIN_SEED, TOY_TEST_SEED = 1, 2  # seeds of random_scene
_TOY_SPACE, _SHARD_SPACE = 7001, 7002  # first words of the generators: what keeps toys and shards apart


@dataclass(frozen=True, slots=True)
class Thing:
    """A drawn thing; `box` bounds what is drawn of it."""

    kind: str
    cue: str | None
    box: Box
    look: Look


@dataclass(frozen=True, slots=True)
class Background:
    """A gradient at `angle` (radians) between two colours, and a mild texture of cells of `grain_px`."""

    first: RGB
    second: RGB
    angle: float
    grain_px: int
    strength: float  # standard deviation of the texture, of 255
    seed: int


@dataclass(frozen=True, slots=True)
class Scene:
    """What `render` draws, in order."""

    width: int
    height: int
    things: tuple[Thing, ...]
    background: Background


def toy_rng(seed: int, k: int) -> np.random.Generator:
    """Generator of the k-th synthetic scene of a seed (TOY_TRAIN_SEED, TOY_TEST_SEED)."""
    return np.random.default_rng([_TOY_SPACE, seed, k])


def shard_rng(seed: int, k: int) -> np.random.Generator:
    """Generator of the k-th post of a smoke shard: never one of `toy_rng`'s."""
    return np.random.default_rng([_SHARD_SPACE, seed, k])


def random_scene(seed: int, k: int) -> Scene:
    """Scene k of a seed: 1 to 4 things, a random part of them with cues. Depends on (seed, k) alone."""
    rng = toy_rng(seed, k)
    n_things = int(rng.choice([1, 2, 3, 4], p=[0.1, 0.35, 0.35, 0.2]))
    cues: list[str | None] = [*rng.permutation(CUES)[:n_things].tolist()]
    kinds = rng.choice(KINDS, n_things).tolist()
    return compose(
        rng, [Wanted(kind, cue if rng.random() < 0.75 else None) for kind, cue in zip(kinds, cues, strict=True)]
    )


def compose(rng: np.random.Generator, wanted: Sequence[Wanted]) -> Scene:
    """A scene whose thing i fulfils wanted i, each given cue being true of exactly that thing.

    Things without a cue fulfil none that another was given; they may be prominent where size tells nothing. Raises
    DataError for more than N_THINGS_MAX things, an unknown kind or cue, or a cue given twice.
    """
    check(wanted)
    background = _background(rng)
    looks = [_look(rng, background) for _ in wanted]
    shapes = [sprite(want.kind, look).size for want, look in zip(wanted, looks, strict=True)]
    boxes = place(rng, wanted, shapes)
    things = tuple(Thing(w.kind, w.cue, box, look) for w, box, look in zip(wanted, boxes, looks, strict=True))
    return Scene(WIDTH_PX, HEIGHT_PX, things, background)


def render(scene: Scene) -> Images.Image:
    """The RGB image of a scene; the same scene gives the same pixels."""
    pil_image = Images.fromarray(_paint(scene.background, scene.width, scene.height), "RGB")
    for thing in scene.things:
        x0, y0, x1, y1 = thing.box.xyxy
        drawn = sprite(thing.kind, thing.look).resize((x1 - x0, y1 - y0), Images.Resampling.BICUBIC)
        pil_image.paste(drawn.convert("RGB"), (x0, y0), drawn.getchannel("A"))
    return pil_image


def png_bytes(pil_image: Scene | Images.Image) -> bytes:
    """A PNG file that says in its DRAWN_KEY chunk that the project drew it; same pixels, same bytes."""
    image = render(pil_image) if isinstance(pil_image, Scene) else pil_image
    chunks, data = PngImagePlugin.PngInfo(), io.BytesIO()
    chunks.add_text(DRAWN_KEY, DRAWN_VALUE)
    image.save(data, "PNG", pnginfo=chunks, compress_level=6)
    return data.getvalue()


def save_png(pil_image: Scene | Images.Image, path: Path) -> None:
    """Publish `png_bytes` at a path."""
    atomic.write_bytes(path, png_bytes(pil_image))


def _background(rng: np.random.Generator) -> Background:
    first, second = rng.integers(40, 216, 3), rng.integers(-45, 46, 3)
    second = np.clip(first + second, 0, 255)
    return Background(
        first=_rgb(first),
        second=_rgb(second),
        angle=float(rng.uniform(0, 2 * math.pi)),
        grain_px=int(rng.integers(1, 12)),
        strength=float(rng.uniform(2, 9)),
        seed=int(rng.integers(2**31)),
    )


def _look(rng: np.random.Generator, background: Background) -> Look:
    behind = (np.array(background.first) + background.second) / 2
    fill = _far_colour(rng, [behind])
    accent = _far_colour(rng, [fill])
    ink = _far_colour(rng, [fill, accent])
    return Look(
        fill=_rgb(fill),
        accent=_rgb(accent),
        ink=_rgb(ink),
        ink_width=float(rng.choice([0.0, 2.5, 4.0, 6.0])),
        turn=float(rng.uniform(-16, 16)),
        flip=bool(rng.random() < 0.5),
        wobble=float(rng.random()),
        stretch=float(rng.uniform(0.85, 1.18)),
    )


def _far_colour(rng: np.random.Generator, others: list[np.ndarray], at_least: float = 95.0) -> np.ndarray:
    """A colour that differs from the others by a weighted distance; the distance asked for falls until one is found."""
    weights = np.array([0.8, 1.1, 0.6])  # the eye's and the luminance's greater share of green
    while True:
        colour = rng.integers(0, 256, 3).astype(float)
        if all(np.linalg.norm((colour - other) * weights) >= at_least for other in others):
            return colour
        at_least *= 0.97


def _rgb(colour: np.ndarray) -> RGB:
    return int(colour[0]), int(colour[1]), int(colour[2])


def _paint(background: Background, width: int, height: int) -> np.ndarray:
    """uint8 [height, width, 3]: gradient and texture."""
    y, x = np.mgrid[0:height, 0:width]
    along = (x / width - 0.5) * math.cos(background.angle) + (y / height - 0.5) * math.sin(background.angle)
    share = np.clip(along / math.sqrt(2) + 0.5, 0, 1)[..., None]
    colours = np.array(background.first) * (1 - share) + np.array(background.second) * share
    rng, grain = np.random.default_rng(background.seed), background.grain_px
    cells = rng.normal(128, 4 * background.strength, (-(-height // grain), -(-width // grain)))
    coarse = Images.fromarray(np.clip(cells, 0, 255).astype(np.uint8), "L")
    texture = (np.asarray(coarse.resize((width, height), Images.Resampling.BILINEAR)).astype(float) - 128) / 4
    return np.clip(colours + texture[..., None], 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Drawn:
    """Images with what is on them: pixels uint8 [N, H, W, 3], boxes int16 [N, T, 4], kinds int8 [N, T], and for each
    cue whether it is true of a thing: cues bool [N, T, len(CUES)]."""

    pixels: np.ndarray
    boxes: np.ndarray
    kinds: np.ndarray
    cues: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

"""Where the things of a scene stand: boxes of which each given word of place or size is true exactly once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embedded.shapes import KINDS
from schema.errors import DataError
from schema.records import Box

PLACES = ("left", "right", "upper", "lower")
SIZES = ("tiny", "huge")
CUES = PLACES + SIZES
N_THINGS_MAX = 4
WIDTH_PX, HEIGHT_PX = 160, 128

# A thing's size is the side of the square of its area, in pixels.
TINY_PX, NORMAL_PX, PROMINENT_PX, HUGE_PX = (19.0, 23.0), (31.0, 44.0), (50.0, 58.0), (68.0, 80.0)
EDGE_PX = 2  # a box keeps clear of the picture's edge, and of other boxes by GAP_PX
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
    """A box of this size at random, within the cue's part of the picture where that is a place."""
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

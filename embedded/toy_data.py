"""Drawn training and test sets for the toy parts, kept in chunks so that a killed run draws none twice.

Shapes: N scenes, T = N_THINGS_MAX things a scene (absent ones: kind -1, box of zeros).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache import atomic, keys
from embedded import placing, scenes, shapes
from embedded.placing import CUES, N_THINGS_MAX, holds
from embedded.shapes import KINDS

CHUNK = 500  # scenes a file
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Drawn:
    """Pictures with what is on them: pixels uint8 [N, H, W, 3], boxes int16 [N, T, 4], kinds int8 [N, T], and for each
    cue whether it is true of a thing: cues bool [N, T, len(CUES)]."""

    pixels: np.ndarray
    boxes: np.ndarray
    kinds: np.ndarray
    cues: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)


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
    files = (placing.__file__, scenes.__file__, shapes.__file__)
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

"""Whether stored rows come out the same today: some are computed again and compared."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.engine import Rows
from pipeline.rows import Made, of, wanted

# How far a row may lie from a recomputed one: beyond what another machine or library version does, below any change
# of weights or method. Trees must be equal; a box is compared by its corners and score, a feature row by its largest
# difference over its largest number.
BOX_PX = 0.5
SCORE = 0.01
FEATURES = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.05}  # by the precision of the computation


@dataclass(frozen=True)
class Again:
    """A row that was computed again; `moved` says how it differs, "" where it does not."""

    stage: str
    key: str
    post_id: str
    moved: str


def recompute(made: Made, stores: Mapping[str, Rows], n_rows: int, rng: random.Random) -> list[Again]:
    """Compute `n_rows` of the stored rows once more, as many of each stage as there are, and compare.

    Only rows of posts that the store holds whole are drawn; the store is not changed. Raises ImageError where a picture
    is no longer what ingest saw.
    """
    steps, owners = list(wanted(made, stores)), []
    for step in steps:
        whole = step.held(stores[step.store])
        owner = {key: post_id for post_id, listed in step.keys.items() if post_id in whole for key in listed}
        names = sorted(owner)
        rng.shuffle(names)
        owners.append({key: owner[key] for key in names})
    tolerance, found = FEATURES[made.build().regions.dtype], []
    for step, owner in zip(steps, _shared_out(owners, n_rows), strict=True):
        view = _Hiding(stores[step.store], set(owner))
        step.work(of(set(owner.values()), made.posts.posts), view)
        stored = stores[step.store].get(list(owner))
        for (key, post_id), before in zip(owner.items(), stored, strict=True):
            found.append(Again(step.stage, key, post_id, _moved(step.stage, before, view.fresh[key], tolerance)))
    return found


class _Hiding:
    """A store in which some rows count as missing; what is computed for them stays in `fresh`."""

    def __init__(self, store: Rows, hidden: set[str]) -> None:
        self._store, self._hidden = store, hidden
        self.fresh: dict[str, Any] = {}

    def missing(self, keys: Sequence[str], /) -> list[str]:
        return [key for key in dict.fromkeys(keys) if key in self._hidden and key not in self.fresh]

    def put(self, rows: dict[str, Any], /) -> None:
        self.fresh |= rows

    def flush(self) -> None:
        """Nothing is kept."""

    def get(self, keys: Sequence[str], /) -> list[Any]:
        others = [key for key in keys if key not in self.fresh]
        values = self.fresh | dict(zip(others, self._store.get(others), strict=True))
        return [values[key] for key in keys]


def _shared_out(owners: Sequence[Mapping[str, str]], n_rows: int) -> list[dict[str, str]]:
    """At most `n_rows` of all, taken in turn from each."""
    counts = [0] * len(owners)
    while sum(counts) < n_rows and any(count < len(owner) for count, owner in zip(counts, owners, strict=True)):
        for index, owner in enumerate(owners):
            counts[index] += counts[index] < len(owner) and sum(counts) < n_rows
    return [dict(list(owner.items())[:count]) for owner, count in zip(owners, counts, strict=True)]


def _moved(stage: str, before: Any, now: Any, tolerance: float) -> str:
    if stage == "phrases":
        return "" if before == now else "another tree"
    if stage == "ground":
        old, new = before[0], now[0]
        px = max(abs(old[name] - new[name]) for name in ("x0", "y0", "x1", "y1"))
        score = abs(old["score"] - new["score"])
        return "" if px <= BOX_PX and score <= SCORE else f"corners by {px:.3g} pixels, score by {score:.3g}"
    old, new = np.asarray(before, np.float64), np.asarray(now, np.float64)
    if old.shape != new.shape:
        return f"shape {list(new.shape)} instead of {list(old.shape)}"
    part = float(np.abs(old - new).max()) / (float(np.abs(old).max()) or 1.0)
    return "" if part <= tolerance else f"by {part:.3g} of its largest number, more than {tolerance:g}"

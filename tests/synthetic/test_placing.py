"""Each given cue is true of exactly the object it was given for, judged by other code than placed it."""

import itertools

import numpy as np
import pytest

from schema.records import Box
from synthetic.scenes import CUES, HEIGHT_PX, WIDTH_PX, ObjectSpec, holds, place

SHAPES = [(30, 24), (24, 30), (30, 30), (18, 30)]


def _ranks(boxes: list[Box]) -> dict[str, list[float]]:
    """Per cue a number of each box that is smallest for the object the cue names."""
    x = [(box.x0 + box.x1) / 2 for box in boxes]
    y = [(box.y0 + box.y1) / 2 for box in boxes]
    area = [float((box.x1 - box.x0) * (box.y1 - box.y0)) for box in boxes]
    minus = {"right": x, "lower": y, "huge": area}
    return {"left": x, "upper": y, "tiny": area, **{cue: [-v for v in values] for cue, values in minus.items()}}


@pytest.mark.parametrize("cues", [c for n in (2, 4) for c in itertools.combinations((*CUES, None, None), n)][::3])
def test_each_cue_is_true_of_its_object_by_a_clear_margin(cues: tuple[str | None, ...]) -> None:
    for seed in range(3):
        wanted = [ObjectSpec("star", cue) for cue in cues]
        boxes = place(np.random.default_rng(seed), wanted, SHAPES[: len(cues)])
        ranks = _ranks(boxes)
        for index, cue in enumerate(cues):
            if cue is None:
                continue
            order = np.argsort(ranks[cue])
            assert order[0] == index, (cue, boxes)
            first, second = ranks[cue][order[0]], ranks[cue][order[1]]
            if cue in ("tiny", "huge"):
                assert max(first / second, second / first) >= 1.5, (cue, boxes)
            else:
                assert second - first >= 25, (cue, boxes)


def test_boxes_stay_inside_and_apart() -> None:
    for seed in range(40):
        wanted = [
            ObjectSpec("star"),
            ObjectSpec("star", "huge"),
            ObjectSpec("star", "left"),
            ObjectSpec("star", "tiny"),
        ]
        boxes = place(np.random.default_rng(seed), wanted, SHAPES)
        canvas = np.zeros((HEIGHT_PX, WIDTH_PX), int)
        for box in boxes:
            assert box.x1 <= WIDTH_PX
            assert box.y1 <= HEIGHT_PX
            canvas[box.y0 : box.y1, box.x0 : box.x1] += 1
        assert canvas.max() == 1


def test_objects_without_a_cue_may_be_prominent_only_where_size_tells_nothing() -> None:
    def longest(cue: str) -> list[int]:
        wanted = [ObjectSpec("star", cue), ObjectSpec("star")]
        placed = [place(np.random.default_rng(seed), wanted, [(30, 30)] * 2) for seed in range(60)]
        return [boxes[1].x1 - boxes[1].x0 for boxes in placed]

    assert max(longest("left")) >= 50
    assert max(longest("huge")) <= 44


def test_holds_refuses_a_near_tie() -> None:
    a, b = Box(10, 40, 40, 70), Box(20, 90, 50, 120)
    assert not holds("left", 0, [a, b])  # ten pixels apart
    assert holds("lower", 1, [a, b])
    assert not holds("tiny", 0, [a, b])

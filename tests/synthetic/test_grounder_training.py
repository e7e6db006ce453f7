"""The accuracy that the synthetic grounder must reach, the measures themselves, and the whole training in small."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from bench.synthetic_grounder import TEST_SEED, score_boxes
from pipeline.grounding.controls import WholeImage
from pipeline.grounding.grounder import ScoredBox
from pipeline.grounding.onestage.grounder import load_synthetic
from synthetic.grounder_training import WEIGHTS, DrawnScenes, draw, train
from synthetic.scenes import CUES
from synthetic.shapes import KINDS

N_QUICK = 120  # scenes of the quick check; `make test-long` takes 1,000


@pytest.fixture(scope="module")
def drawn() -> DrawnScenes:
    return draw(TEST_SEED, N_QUICK)


class Oracle:
    """Answers with the boxes of the set, in the order of `questions`."""

    identity = {"name": "oracle"}  # noqa: RUF012
    synthetic = True
    merges = False

    def prepare(self, image: PIL.Image.Image) -> PIL.Image.Image:
        return image

    def is_cut(self, text: str) -> bool:
        return False

    def __init__(self, drawn: DrawnScenes, shift_px: float) -> None:
        self.drawn, self.shift_px = drawn, shift_px

    def ground(self, images: Sequence[PIL.Image.Image], queries: Sequence[Sequence[str]]) -> list[list[ScoredBox]]:
        return [[self._answer(row, text) for text in asked] for row, asked in enumerate(queries)]

    def _answer(self, row: int, text: str) -> ScoredBox:
        words = text.split()
        if words[0] in CUES:
            item = int(np.flatnonzero(self.drawn.cues[row][:, CUES.index(words[0])])[0])
        else:
            item = int(np.flatnonzero(self.drawn.kinds[row] == KINDS.index(words[-1]))[0])
        x0, y0, x1, y1 = (float(side) for side in self.drawn.boxes[row, item])
        return ScoredBox((x0 + self.shift_px, y0, x1 + self.shift_px, y1), 1.0)


def test_the_measure_gives_1_to_an_oracle_and_0_to_what_misses(drawn: DrawnScenes) -> None:
    right = score_boxes(Oracle(drawn, 0.0), drawn)
    assert right["box_acc_50"] == 1.0
    assert right["whole_image_acc_50"] < 0.1
    assert right["random_box_acc_50"] < 0.1
    assert 0.3 < right["random_object_acc_50"] < 0.7
    assert right["n_questions"] > N_QUICK
    assert score_boxes(Oracle(drawn, 60.0), drawn)["box_acc_50"] == 0.0
    whole = score_boxes(WholeImage(), drawn)
    assert whole["box_acc_50"] == whole["whole_image_acc_50"]


def test_the_embedded_grounder_is_accurate_on_unseen_scenes(drawn: DrawnScenes) -> None:
    grounder = load_synthetic(WEIGHTS)
    assert score_boxes(grounder, drawn)["box_acc_50"] >= 0.90


@pytest.mark.long
def test_the_embedded_grounder_is_accurate_on_a_thousand_scenes() -> None:
    scores = score_boxes(load_synthetic(WEIGHTS), draw(TEST_SEED, 1000))
    assert scores["box_acc_50"] >= 0.90
    assert {"whole_image_acc_50", "random_box_acc_50"} <= scores.keys()


def test_the_same_training_gives_the_same_file_also_when_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthetic.grounder_training.N_SCENES", 2)
    monkeypatch.setattr("synthetic.grounder_training.SAVE_S", 0.0)
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    arguments = {"work": tmp_path / "work", "n_scenes": 4, "n_steps": 3}
    assert [step for step, _ in train(a, **arguments)] == [1, 2, 3]
    killed = train(b, **arguments)
    next(killed)
    next(killed)
    killed.close()
    assert not b.exists()
    assert [step for step, _ in train(b, **arguments)] in ([2, 3], [3])
    assert a.read_bytes() == b.read_bytes()
    assert list((tmp_path / "work").iterdir()) == [], "no checkpoint is left behind"


def test_the_card_beside_the_weights_names_what_was_measured() -> None:
    card = WEIGHTS.with_suffix(".md").read_text(encoding="utf-8")
    assert "drawn" in card
    assert "fmit embedded train-grounder" in card
    assert "1,000 unseen scenes" in card

"""The bars that the embedded toys must clear, the measures themselves, and the whole training in small."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from cache.weights import EMBEDDED
from pipeline.grounding.controls import WholeImage
from pipeline.grounding.grounder import Found
from pipeline.grounding.onestage.grounder import load_onestage
from synthetic import grounder_training
from synthetic.scenes import CUES, TOY_TEST_SEED
from synthetic.shapes import KINDS

N_QUICK = 120  # scenes of the quick check; `make test-long` takes 1,000


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> grounder_training.Drawn:
    return grounder_training.draw(TOY_TEST_SEED, N_QUICK, tmp_path_factory.mktemp("scenes"))


class Oracle:
    """Answers with the boxes of the set, in the order of `questions`."""

    identity = {"name": "oracle"}  # noqa: RUF012
    synthetic = True
    merges = False

    def prepare(self, image: PIL.Image.Image) -> PIL.Image.Image:
        return image

    def is_cut(self, text: str) -> bool:
        return False

    def __init__(self, drawn: grounder_training.Drawn, shift_px: float) -> None:
        self.drawn, self.shift_px = drawn, shift_px

    def ground(self, images: Sequence[PIL.Image.Image], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        return [[self._answer(row, text) for text in asked] for row, asked in enumerate(queries)]

    def _answer(self, row: int, text: str) -> Found:
        words = text.split()
        if words[0] in CUES:
            thing = int(np.flatnonzero(self.drawn.cues[row][:, CUES.index(words[0])])[0])
        else:
            thing = int(np.flatnonzero(self.drawn.kinds[row] == KINDS.index(words[-1]))[0])
        x0, y0, x1, y1 = (float(side) for side in self.drawn.boxes[row, thing])
        return Found((x0 + self.shift_px, y0, x1 + self.shift_px, y1), 1.0)


def test_the_measure_gives_one_to_an_oracle_and_nought_to_what_misses(drawn: grounder_training.Drawn) -> None:
    right = grounder_training.score_boxes(Oracle(drawn, 0.0), drawn)
    assert right["box_acc_50"] == 1.0
    assert right["whole_image_acc_50"] < 0.1
    assert right["random_box_acc_50"] < 0.1
    assert 0.3 < right["random_thing_acc_50"] < 0.7
    assert right["n_questions"] > N_QUICK
    assert grounder_training.score_boxes(Oracle(drawn, 60.0), drawn)["box_acc_50"] == 0.0
    whole = grounder_training.score_boxes(WholeImage(), drawn)
    assert whole["box_acc_50"] == whole["whole_image_acc_50"]


def test_embedded_toys_clear_their_bars_on_unseen_scenes(drawn: grounder_training.Drawn) -> None:
    grounder = load_onestage(EMBEDDED / "toy-onestage.safetensors", "toy-onestage", synthetic=True)
    scores = {**grounder_training.score_boxes(grounder, drawn), **grounder_training.score_kinds(EMBEDDED, drawn)}
    assert scores["box_acc_50"] >= 0.90
    assert scores["kind_accuracy"] >= 0.95
    assert scores["kind_accuracy_jittered"] >= 0.90


@pytest.mark.long
def test_embedded_toys_clear_their_bars_on_a_thousand_scenes(tmp_path: Path) -> None:
    scores = grounder_training.score(1000, work=tmp_path)
    assert scores["box_acc_50"] >= 0.90
    assert scores["kind_accuracy"] >= 0.95
    assert {"whole_image_acc_50", "random_box_acc_50"} <= scores.keys()


@pytest.mark.parametrize("train", [grounder_training.train_grounder, grounder_training.train_resnet])
def test_the_same_training_gives_the_same_file_also_when_it_was_killed(
    train: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthetic.grounder_training.N_TEST_SCENES", 2)
    monkeypatch.setattr("synthetic.backbone_training.N_CROPS", 4)
    monkeypatch.setattr("synthetic.grounder_training.SAVE_S", 0.0)
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    arguments = {"work": tmp_path / "work", "n_scenes": 4, "n_steps": 3}
    assert [result.step for result in train(a, **arguments)] == [1, 2, 3]  # type: ignore[operator]
    killed = train(b, **arguments)  # type: ignore[operator]
    next(killed)
    next(killed)
    killed.close()
    assert not b.exists()
    assert [result.step for result in train(b, **arguments)] in ([2, 3], [3])  # type: ignore[operator]
    assert a.read_bytes() == b.read_bytes()
    assert [path.suffix for path in (tmp_path / "work").iterdir()] == [".npz"]  # no checkpoint is left behind


@pytest.mark.parametrize("name", ["toy-onestage", "toy-resnet"])
def test_cards_stand_beside_the_weights_and_name_what_was_measured(name: str) -> None:
    card = (EMBEDDED / f"{name}.md").read_text(encoding="utf-8")
    assert "drawn" in card
    assert "fmit embedded train-toys" in card
    assert "1,000 unseen scenes" in card

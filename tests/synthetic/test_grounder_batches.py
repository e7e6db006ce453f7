"""What the grounder is taught: right boxes for every query, whatever augmentation does to the image."""

import numpy as np
import pytest
import torch

from pipeline.grounding.onestage.network import small_network
from synthetic import grounder_training
from synthetic.grounder_training import SIZES, TRAIN_SEED, WORDS, Batches, DrawnScenes, draw, query, targets
from synthetic.scenes import CUES
from synthetic.shapes import KINDS


@pytest.fixture(scope="module")
def drawn() -> DrawnScenes:
    return draw(TRAIN_SEED, 24)


def test_the_vocabulary_holds_cues_and_kinds_alone() -> None:
    assert ("<pad>", "<unk>", *CUES, *KINDS) == WORDS


def test_targets_decode_to_the_boxes_they_were_made_from() -> None:
    rng = np.random.default_rng(0)
    objects = []
    for n in (1, 2, 1, 3):
        side = rng.uniform(12, 60, (n, 2))
        corner = rng.uniform(0, 1, (n, 2)) * (SIZES.size_px - side)
        objects.append(np.concatenate([corner, corner + side], axis=1))
    index, weight, offsets = targets(objects)
    network = small_network(SIZES, len(WORDS))
    answers = torch.zeros(4, len(network.grid), 5)
    answers[index[:, 0], index[:, 1], :2] = torch.logit(offsets[:, :2])
    answers[index[:, 0], index[:, 1], 2:4] = offsets[:, 2:]
    boxes = network.boxes(answers)[index[:, 0], index[:, 1]]
    assert np.allclose(boxes.numpy(), np.concatenate(objects), atol=1e-3)
    assert torch.zeros(4).index_add(0, index[:, 0], weight).tolist() == pytest.approx([1.0] * 4)
    at = network.grid[index[:, 1]]
    widths = boxes[:, 2] - boxes[:, 0]
    assert (torch.maximum(at[:, 3] / widths, widths / at[:, 3]) < 2.6).all()  # of nine anchors a near one


def test_what_is_asked_is_true_of_what_should_answer(drawn: DrawnScenes) -> None:
    rng = np.random.default_rng(1)
    asked_cues = asked_kinds = asked_nothing = 0
    for row in range(len(drawn.kinds)):
        kinds, cues = drawn.kinds[row], drawn.cues[row]
        present = [i for i in range(4) if kinds[i] >= 0]
        for _ in range(40):
            text, objects = query(rng, kinds, cues)
            words = text.split()
            if words[0] in CUES:
                asked_cues += 1
                assert objects == [i for i in present if cues[i, CUES.index(words[0])]]
            elif words[0] in KINDS:
                asked_kinds += 1
                assert objects == ([i for i in present if KINDS[kinds[i]] == words[0]] or present)
            else:
                asked_nothing += 1
                assert (text, objects) == ("<unk>", present)
    assert asked_cues > asked_kinds > asked_nothing > 10


def test_a_flipped_image_flips_its_boxes_and_places(drawn: DrawnScenes, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the true colours of an object's middle as witness: they are found at the box that is taught."""
    batches = Batches(drawn, seed=0)
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def spy(rng: np.random.Generator, kinds: np.ndarray, cues: np.ndarray) -> tuple[str, list[int]]:
        seen.append((kinds, cues))
        return "left", [0]

    taught: list[np.ndarray] = []
    monkeypatch.setattr(grounder_training, "query", spy)
    monkeypatch.setattr(grounder_training, "targets", lambda objects: taught.extend(objects) or targets(objects))
    images, *_ = batches(0)
    n_flipped = 0
    for n in range(grounder_training.N_SCENES):
        kinds, cues = seen[n * grounder_training.N_QUERIES]
        x0, y0, x1, y1 = taught[n * grounder_training.N_QUERIES][0]
        row = next(
            r for r in range(len(drawn.kinds)) if drawn.kinds[r] is kinds or np.shares_memory(drawn.kinds[r], kinds)
        )
        flipped = not np.allclose(batches.boxes[row][0, 0], x0)
        n_flipped += flipped
        y, x = int((y0 + y1) / 2), int((x0 + x1) / 2)
        source = int((batches.boxes[row][0, 0] + batches.boxes[row][0, 2]) / 2)
        patch = images[n][:, y, x - 1 : x + 2].mean(dim=1).sort().values
        near = [
            np.sort((batches.pixels[row][:, y, c - 1 : c + 2].mean(axis=1) / 255 - 0.5) / 0.25)
            for c in (source - 1, source, source + 1)
        ]
        assert min(np.abs(patch.numpy() - one).max() for one in near) < 1e-4
        expected = drawn.cues[row][:, grounder_training.FLIPPED_CUES] if flipped else drawn.cues[row]
        assert np.array_equal(cues, expected)
    assert 0 < n_flipped < grounder_training.N_SCENES


def test_a_batch_depends_on_seed_and_step_alone(drawn: DrawnScenes) -> None:
    a, b = Batches(drawn, 0), Batches(drawn, 0)
    a(0)
    assert all(torch.equal(x, y) for x, y in zip(a(5), b(5), strict=True))
    assert not torch.equal(a(5)[0], a(6)[0])
    assert not torch.equal(a(5)[0], Batches(drawn, 1)(5)[0])


def test_the_loss_is_small_only_for_the_right_answers(drawn: DrawnScenes) -> None:
    batch = Batches(drawn, 0)(0)
    _, words, index, weight, offsets = batch

    class Oracle(torch.nn.Module):
        def encode_images(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [torch.zeros(len(images), 1, 1, 1)]

        def forward(self, seen: list[torch.Tensor], words: torch.Tensor) -> torch.Tensor:
            answers = torch.zeros(len(words), 1008, 5)
            answers[index[:, 0], index[:, 1], :2] = torch.logit(offsets[:, :2].clamp(1e-5, 1 - 1e-5))
            answers[index[:, 0], index[:, 1], 2:4] = offsets[:, 2:]
            answers[index[:, 0], index[:, 1], 4] = 20.0
            return answers

    entropy = -(weight * weight.log()).sum() / len(words)  # what several right answers cost at least
    assert grounder_training.loss(Oracle(), batch).item() == pytest.approx(entropy.item(), abs=1e-3)  # type: ignore[arg-type]
    torch.manual_seed(0)
    assert grounder_training.loss(small_network(SIZES, len(WORDS)), batch).item() > 5

"""Rows do not depend on their neighbours, names change nothing, and known scenes are answered."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cache.weights import EMBEDDED, load_safetensors, save_safetensors
from pipeline.grounding.grounder import ground_images
from pipeline.grounding.onestage.grounder import OneStageGrounder, Vocabulary, architecture, load_synthetic
from pipeline.grounding.onestage.network import small_network
from schema.errors import WeightsError
from tests.pipeline.grounding.test_onestage import TINY

WORDS = ("<pad>", "<unk>", "left", "tiny", "star")
WEIGHTS = EMBEDDED / "synthetic-grounder.safetensors"


def _grounder(seed: int = 0) -> OneStageGrounder:
    torch.manual_seed(seed)
    network = small_network(TINY, len(WORDS))
    for module in network.modules():  # away from the start values, where half the network is silent
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return OneStageGrounder(network, Vocabulary(WORDS), {"name": "test"}, synthetic=True)


def _images(n: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(64, 48), (40, 70), (90, 90)]
    return [
        Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8))
        for w, h in itertools.islice(itertools.cycle(sizes), n)
    ]


def test_rows_have_equal_bits_in_any_grouping_and_order() -> None:
    grounder = _grounder()
    images = _images(7)
    texts = ["left", "the tiny star", "person", "star", "tiny", "left star", "a star on the left", "x", "y"]
    queries = [texts[: 1 + i] for i in range(7)]
    together = ground_images(grounder, images, queries)
    alone = [
        [ground_images(grounder, [image], [[text]])[0][0] for text in asked]
        for image, asked in zip(images, queries, strict=True)
    ]
    assert together == alone
    order = np.random.default_rng(3).permutation(7)
    mixed = ground_images(grounder, [images[i] for i in order], [queries[i][::-1] for i in order])
    assert [together[i][::-1] for i in order] == mixed
    assert len({found.xyxy for row in together for found in row}) > 7  # the rows do differ


def test_rows_have_equal_bits_whatever_the_number_of_threads() -> None:
    grounder, images, queries = _grounder(), _images(3), [["left", "star"]] * 3
    before = torch.get_num_threads()
    try:
        rows = []
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            rows.append(ground_images(grounder, images, queries))
            assert torch.get_num_threads() == n_threads  # the caller's number is put back
    finally:
        torch.set_num_threads(before)
    assert rows[0] == rows[1]


def test_the_best_of_all_scales_and_anchors_is_given_in_the_image_s_pixels() -> None:
    grounder = _grounder()
    with torch.no_grad():
        for head in grounder.network.heads:
            head.answer.weight.zero_()
            head.answer.bias.zero_()
        grounder.network.heads[1].answer.bias[9] = 5.0  # second anchor of the coarser scale: (30, 40)
    found = ground_images(grounder, [Image.new("RGB", (128, 64))], [["left"]])[0][0]
    # The arg-max takes the first of equal cells: centre (8, 8) in the square, half of the image's scale, 16 lower.
    assert found.xyxy == pytest.approx(((8 - 15) * 2, (8 - 20 - 16) * 2, (8 + 15) * 2, (8 + 20 - 16) * 2))
    assert found.score == pytest.approx(np.exp(5) / (16 * np.exp(5) + 144), rel=1e-5)


def test_words_are_looked_up_whatever_their_case_and_punctuation() -> None:
    vocabulary = Vocabulary(WORDS)
    assert vocabulary.encode("the LEFT, #Star!") == [2, 4, 0, 0, 0, 0]
    assert vocabulary.encode("left Jordan star") == vocabulary.encode("left star")
    assert vocabulary.encode("Jordan") == vocabulary.encode("") == [1, 0, 0, 0, 0, 0]
    assert vocabulary.encode("star " * 9) == [4] * 6


def test_a_vocabulary_without_its_first_two_words_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"a vocabulary must start with <pad> and <unk> .*\(found \('left',"):
        Vocabulary(("left", "star"))


def test_saved_weights_answer_as_before(tmp_path: Path) -> None:
    grounder = _grounder(5)
    path = tmp_path / "w.safetensors"
    tensors = {name: value.numpy() for name, value in grounder.network.state_dict().items()}
    save_safetensors(path, tensors, architecture(TINY, WORDS))
    loaded = load_synthetic(path)
    assert ground_images(loaded, _images(3), [["left"]] * 3) == ground_images(grounder, _images(3), [["left"]] * 3)
    assert loaded.synthetic
    tensors.pop("heads.1.answer.bias")
    save_safetensors(path, tensors, architecture(TINY, WORDS))
    with pytest.raises(
        WeightsError, match=r'not the weights of the one-stage grounder \(found .*"heads.1.answer.bias"'
    ):
        load_synthetic(path)


def test_embedded_weights_know_cues_and_kinds_and_neither_names_nor_types() -> None:
    words = load_synthetic(WEIGHTS).reader.words
    assert {"left", "right", "upper", "lower", "tiny", "huge", "star"} <= set(words)
    assert not {"person", "location", "organization", "miscellaneous", "jordan", "madison", "place", "name"} & set(
        words
    )
    assert (WEIGHTS).stat().st_size <= 6e6
    tensors, _ = load_safetensors(WEIGHTS)
    assert all(np.isfinite(value).all() for value in tensors.values())


def test_reference_rows_of_the_embedded_weights() -> None:
    """Pinned for VERSION 1 and these weights: where they move, the version must."""
    grounder = load_synthetic(WEIGHTS)
    y, x = np.mgrid[0:128, 0:160]
    pixels = np.stack([(x * 1.3) % 256, (y * 1.7) % 256, (x + y) % 256], -1).astype(np.uint8)
    pixels[30:70, 20:55] = (250, 30, 40)
    found = ground_images(grounder, [Image.fromarray(pixels)], [["left Jordan", "person"]])[0]
    for one, (xyxy, score) in zip(found, REFERENCE, strict=True):
        assert one.xyxy == pytest.approx(xyxy, abs=1e-2)
        assert one.score == pytest.approx(score, abs=1e-4)


# Box and score of each query, on an x86-64 machine; other machines agree to the tolerance above.
REFERENCE: list[tuple[tuple[float, ...], float]] = [
    ((16.348, 27.719, 56.913, 71.244), 0.99722),
    ((16.927, 28.154, 57.519, 71.035), 0.82660),
]

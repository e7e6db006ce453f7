"""Grounding DINO against the library's own way, scored piece by piece in plain loops."""

from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, GroundingDinoForObjectDetection, GroundingDinoImageProcessor
from transformers.models.grounding_dino.processing_grounding_dino import GroundingDinoProcessor

from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import ScoredBox, ground_images
from pipeline.grounding.grounding_dino import GroundingDinoGrounder
from pipeline.grounding.registry import build_grounder
from schema.errors import WeightsError
from tests.pipeline.grounding.checkpoints import DINO_PIECES, noise, write_json

IMAGES = [noise(90, 60), noise(40, 100, 1), noise(90, 60, 2)]
TEXTS = ["a dog", "the red cat", "person"]


def build(folder: Path, **settings: object) -> GroundingDinoGrounder:
    section = {"grounder": "grounding-dino", "weights": str(folder), **settings}
    made = build_grounder(GroundConfig.from_section(section, "data.d.ground", {}))
    assert isinstance(made, GroundingDinoGrounder)
    return made


@cache
def library(folder: Path) -> tuple[GroundingDinoProcessor, GroundingDinoForObjectDetection]:
    images, words = GroundingDinoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return GroundingDinoProcessor(images, words), GroundingDinoForObjectDetection.from_pretrained(folder).eval()


def direct(folder: Path, image: Image.Image, merged: str, spans: list[tuple[int, int]]) -> list[ScoredBox]:
    """For each span of pieces the box with the highest mean of the pieces' scores; the library makes all boxes."""
    processor, model = library(folder)
    inputs = processor(images=image, text=merged, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    sizes = [(image.height, image.width)]
    answer = processor.post_process_grounded_object_detection(outputs, threshold=-1.0, target_sizes=sizes)[0]
    pieces = outputs.logits[0].sigmoid().tolist()
    assert len(answer["boxes"]) == len(pieces)  # a threshold below all keeps all, in order
    found = []
    for start, end in spans:
        scores = [sum(row[start:end]) / (end - start) for row in pieces]
        best = scores.index(max(scores))
        x0, y0, x1, y1 = answer["boxes"][best].tolist()
        found.append(ScoredBox((x0, y0, x1, y1), scores[best]))
    return found


def same(found: list[ScoredBox], expected: list[ScoredBox]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.xyxy == pytest.approx(other.xyxy, abs=1.0)
        assert one.score == pytest.approx(other.score, abs=1e-4)


def test_boxes_are_those_of_a_direct_call_on_the_merged_text(dino: Path) -> None:
    found = ground_images(build(dino), IMAGES, [TEXTS] * 3)
    for image, row in zip(IMAGES, found, strict=True):
        same(row, direct(dino, image, "a dog. the red cat. person.", [(1, 3), (4, 7), (8, 9)]))


def test_merged_texts_have_the_library_s_own_pieces(dino: Path) -> None:
    grounder = build(dino)
    processor, _ = library(dino)
    (one,) = grounder.passes(0, TEXTS)
    assert list(one.pieces) == processor(text=[TEXTS], return_tensors="pt")["input_ids"][0].tolist()
    assert one.spans == {"a dog": (1, 3), "the red cat": (4, 7), "person": (8, 9)}


def test_a_full_stop_inside_a_phrase_breaks_nothing(dino: Path) -> None:
    grounder = build(dino)
    texts = ["St. Louis", "a dog?", "U.S. person"]
    (one,) = grounder.passes(0, texts)
    assert one.spans == {"St. Louis": (1, 3), "a dog?": (4, 6), "U.S. person": (7, 10)}
    same(
        ground_images(grounder, IMAGES[:1], [texts])[0],
        direct(dino, IMAGES[0], "st louis. a dog. u s person.", [(1, 3), (4, 6), (7, 10)]),
    )
    (one,) = grounder.passes(0, ["[SEP] dog [PAD]"])
    assert (one.pieces[0], one.pieces[-1]) == (101, 102)
    assert not {0, 101, 102, 1012} & set(one.pieces[1:-2])


def test_phrases_that_share_pieces_or_repeat_keep_their_own_spans(dino: Path) -> None:
    grounder = build(dino)
    texts = ["a dog", "the dog", "dog", "a dog"]
    (one,) = grounder.passes(0, texts)
    assert one.spans == {"a dog": (1, 3), "the dog": (4, 6), "dog": (7, 8)}
    found = ground_images(grounder, IMAGES[:1], [texts])[0]
    assert found[0] == found[3]
    same(found[:3], direct(dino, IMAGES[0], "a dog. the dog. dog.", [(1, 3), (4, 6), (7, 8)]))


def test_a_merged_text_beyond_the_limit_is_split_between_phrases(dino: Path) -> None:
    grounder = build(dino)
    texts = [f"{first} {second} park" for first in ("a", "the") for second in ("red", "tiny", "left", "cat")]
    passes = grounder.passes(0, texts)
    assert [len(one.pieces) for one in passes] == [2 + 4 * 5, 2 + 4 * 3]
    assert all(len(one.pieces) <= DINO_PIECES for one in passes)
    assert [text for one in passes for text in one.spans] == texts
    found = ground_images(grounder, IMAGES[:1], [texts])[0]
    spans = [(1 + 4 * i, 4 + 4 * i) for i in range(5)]
    same(found[:5], direct(dino, IMAGES[0], ". ".join(texts[:5]) + ".", spans))
    same(found[5:], direct(dino, IMAGES[0], ". ".join(texts[5:]) + ".", spans[:3]))


def test_a_phrase_beyond_the_limit_is_cut_and_an_empty_one_unknown(dino: Path) -> None:
    grounder = build(dino)
    long = "dog " * 30
    assert grounder.is_cut(long)
    assert not grounder.is_cut("dog " * (DINO_PIECES - 3))
    first, second, third = grounder.passes(0, ["a cat", long, "..."])
    assert (len(first.pieces), len(second.pieces), second.spans) == (5, DINO_PIECES, {long: (1, DINO_PIECES - 2)})
    assert third.pieces == (101, 100, 1012, 102)  # [CLS] [UNK] . [SEP]
    assert len(ground_images(grounder, IMAGES[:1], [["a cat", long, "..."]])[0]) == 3


def test_rows_follow_what_is_read_with_them_and_nothing_else(dino: Path) -> None:
    grounder = build(dino)
    assert grounder.merges
    queries = [TEXTS, ["person", "a dog"], ["a dog"]]
    together = ground_images(grounder, IMAGES, queries)
    for i in (2, 0, 1):
        assert ground_images(grounder, [IMAGES[i]], [queries[i]])[0] == together[i]
    alone = ground_images(grounder, IMAGES[:1], [["a dog"]])[0][0]
    assert alone.score != together[0][0].score  # the other phrases sway it


def test_without_merging_a_row_follows_its_own_phrase_alone(dino: Path) -> None:
    grounder = build(dino, merge=False)
    assert not grounder.merges
    assert grounder.identity["merged"] == "no"
    found = ground_images(grounder, IMAGES, [TEXTS, ["person", "a dog"], []])
    assert found[1][1] == ground_images(grounder, [IMAGES[1]], [["a dog"]])[0][0]
    same(found[0][:1], direct(dino, IMAGES[0], "a dog.", [(1, 3)]))
    assert found[0] == ground_images(grounder, IMAGES[:1], [TEXTS[::-1]])[0][::-1]


def test_a_gpu_s_full_passes_agree(dino: Path) -> None:
    grounder, full = build(dino, merge=False), build(dino, merge=False)
    full._n_batch = 2  # three passes of one shape, two of another
    queries = [TEXTS[:2], TEXTS[:2], TEXTS[:1]]
    for row, expected in zip(
        ground_images(full, IMAGES, queries), ground_images(grounder, IMAGES, queries), strict=True
    ):
        same(row, expected)


def test_a_dtype_is_named_and_used(dino: Path) -> None:
    half = build(dino, dtype="float16")
    assert half.identity["dtype"] == "float16"
    exact, rough = (ground_images(one, IMAGES[:1], [TEXTS])[0] for one in (build(dino), half))
    assert rough != exact
    assert [one.score for one in rough] == pytest.approx([one.score for one in exact], abs=0.02)


def test_images_of_extreme_shapes(dino: Path) -> None:
    grounder = build(dino)
    wide, tall = Image.new("RGB", (20_000, 1), (200, 10, 10)), Image.new("RGB", (3, 900))
    assert grounder.prepare(wide).size == (20_000, 20)
    assert grounder.prepare(tall).size == (60, 900)
    assert [len(row) for row in ground_images(grounder, [wide, tall], [TEXTS, TEXTS])] == [3, 3]


def test_a_foreign_tokenizer_is_refused(dino: Path, tmp_path: Path) -> None:
    for path in dino.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "dog"]))
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    with pytest.raises(WeightsError, match=r"are not those of uncased BERT \(found 2, 3, 5\)"):
        build(tmp_path)

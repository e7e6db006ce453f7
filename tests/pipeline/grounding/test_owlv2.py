"""OWLv2 against the library's own way from image and texts to boxes."""

from functools import cache
from pathlib import Path

import PIL.Image
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoTokenizer, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2ImageProcessorPil
from transformers.models.owlv2.processing_owlv2 import Owlv2Processor

from cache import tables
from cache.keys import digest_file
from cache.shard_directory import shard_directories
from pipeline.engine import Tally
from pipeline.grounding import stage as grounding_stage
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import ScoredBox, ground_images
from pipeline.grounding.owlv2 import N_QUERIES, Owlv2Grounder
from pipeline.grounding.registry import build_grounder
from tests.pipeline.drawn import LABELS, make_image, phrases, post
from tests.pipeline.grounding.checkpoints import noise, owlv2
from vision.crops import clip

TEXTS = ["a dog", "the red cat", "", "person", "Ünïcode, too!"]
IMAGES = [noise(90, 60), noise(40, 100, 1), noise(64, 64, 2), noise(200, 130, 3)]
LONG = "a very long phrase of many more pieces"


def build(folder: Path, **settings: object) -> Owlv2Grounder:
    section = {"grounder": "owlv2", "weights": str(folder), **settings}
    made = build_grounder(GroundConfig.from_section(section, "data.d.ground", {}))
    assert isinstance(made, Owlv2Grounder)
    return made


@cache
def library(folder: Path, processors: type) -> tuple[Owlv2Processor, Owlv2ForObjectDetection]:
    processor = Owlv2Processor(processors.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
    return processor, Owlv2ForObjectDetection.from_pretrained(folder).eval()


def direct(folder: Path, image: Image.Image, text: str, processors: type = Owlv2ImageProcessor) -> ScoredBox:
    """The box with the highest score, by the library alone."""
    processor, model = library(folder, processors)
    inputs = processor(text=[[text]], images=image, return_tensors="pt", truncation=True)
    with torch.no_grad():
        outputs = model(**inputs)
    sizes = [(image.height, image.width)]
    answer = processor.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=sizes)[0]
    best = int(answer["scores"].argmax())
    x0, y0, x1, y1 = answer["boxes"][best].tolist()
    return ScoredBox((x0, y0, x1, y1), float(answer["scores"][best]))


def test_boxes_are_those_of_a_direct_call(owl: Path) -> None:
    found = ground_images(build(owl), IMAGES, [TEXTS] * len(IMAGES))
    assert len({one.xyxy for row in found for one in row}) > len(IMAGES)  # texts choose different patches
    for image, row in zip(IMAGES, found, strict=True):
        for text, one in zip(TEXTS, row, strict=True):
            expected = direct(owl, image, text)
            assert one.xyxy == pytest.approx(expected.xyxy, abs=1.0)
            assert one.score == pytest.approx(expected.score, abs=1e-4)


def test_the_slow_processor_is_a_choice_and_named(owl: Path) -> None:
    slow, fast = build(owl, processor="pil"), build(owl)
    assert (slow.identity["image_processor"], fast.identity["image_processor"]) == ("pil", "torchvision")
    found = ground_images(slow, IMAGES[:2], [TEXTS[:2]] * 2)
    for image, row in zip(IMAGES[:2], found, strict=True):
        for text, one in zip(TEXTS[:2], row, strict=True):
            expected = direct(owl, image, text, Owlv2ImageProcessorPil)
            assert one.xyxy == pytest.approx(expected.xyxy, abs=1.0)
            assert one.score == pytest.approx(expected.score, abs=1e-4)


def test_the_padding_of_the_square_is_undone(owl: Path) -> None:
    """Box heads without weights answer with a patch's own corner and side: a quarter of the longer side."""
    grounder = build(owl)
    with torch.no_grad():
        for value in grounder._model.box_head.parameters():
            value.zero_()
    for image in IMAGES:
        x0, y0, x1, y1 = ground_images(grounder, [image], [["a dog"]])[0][0].xyxy
        side = max(image.size) / 4
        assert (x1 - x0, y1 - y0) == pytest.approx((side, side), abs=0.01)
        for centre in ((x0 + x1) / 2, (y0 + y1) / 2):
            assert centre / side == pytest.approx(round(centre / side), abs=0.01)


def test_rows_have_equal_bits_in_any_grouping_and_order(owl: Path) -> None:
    grounder = build(owl)
    many = [*TEXTS, *(f"thing {i}" for i in range(N_QUERIES))]
    queries = [many, ["a dog"], [], ["person", "a dog"]]
    together = ground_images(grounder, IMAGES, queries)
    fresh = build(owl)
    for image, texts, row in reversed(list(zip(IMAGES, queries, together, strict=True))):
        assert [ground_images(fresh, [image], [[text]])[0][0] for text in reversed(texts)] == row[::-1]


def test_an_image_is_read_once_and_so_is_a_text(owl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grounder = build(owl)
    model = grounder._model
    passes, read = [], []
    see, text_model = model.image_embedder, model.owlv2.text_model.forward
    monkeypatch.setattr(model, "image_embedder", lambda **given: passes.append(1) or see(**given))
    monkeypatch.setattr(model.owlv2.text_model, "forward", lambda **given: read.append(1) or text_model(**given))
    many = [f"thing {i}" for i in range(N_QUERIES)]
    ground_images(grounder, IMAGES, [many, many, many[:3], many])
    assert (len(passes), len(read)) == (4, 16)
    grounder._n_batch = 3  # as on a GPU
    ground_images(grounder, IMAGES, [[*many, "one more"], many, ["two more"], many])
    assert (len(passes), len(read)) == (6, 17)


def test_a_gpu_s_full_passes_agree(owl: Path) -> None:
    grounder, full = build(owl), build(owl)
    full._n_batch = 3
    queries = [TEXTS, TEXTS[:1], [], TEXTS[1:]]
    one_by_one, together = ground_images(grounder, IMAGES, queries), ground_images(full, IMAGES, queries)
    assert [len(row) for row in together] == [5, 1, 0, 4]
    for row, expected in zip(together, one_by_one, strict=True):
        for one, other in zip(row, expected, strict=True):
            assert one.xyxy == pytest.approx(other.xyxy, abs=0.01)
            assert one.score == pytest.approx(other.score, abs=1e-5)


def test_a_text_beyond_the_limit_is_cut_not_lost(owl: Path) -> None:
    grounder = build(owl)
    assert grounder.n_pieces == 16
    assert grounder.is_cut(LONG)
    assert not grounder.is_cut("a dog")
    one = ground_images(grounder, IMAGES[:1], [[LONG]])[0][0]
    expected = direct(owl, IMAGES[0], LONG)
    assert one.xyxy == pytest.approx(expected.xyxy, abs=1.0)
    assert one.score == pytest.approx(expected.score, abs=1e-4)


def test_a_dtype_is_named_and_used(owl: Path) -> None:
    half = build(owl, dtype="bfloat16")
    assert half.identity["dtype"] == "bfloat16"
    exact = ground_images(build(owl), IMAGES[:1], [TEXTS])[0]
    rough = ground_images(half, IMAGES[:1], [TEXTS])[0]
    assert rough != exact
    assert [one.score for one in rough] == pytest.approx([one.score for one in exact], abs=0.05)


def test_a_line_of_pixels_makes_no_giant_square(owl: Path) -> None:
    seen = build(owl).prepare(Image.new("RGB", (20_000, 1)))
    assert (tuple(seen.pixels.shape), seen.longer_px) == ((3, 64, 64), 20_000)


def test_identities_follow_weights_and_settings(owl: Path, tmp_path: Path) -> None:
    identity = build(owl).identity
    assert identity == build(owl, batch=5, workers=0).identity
    other = build(owlv2(tmp_path / "other", seed=1)).identity
    assert other["weights"] != identity["weights"]
    assert other["files"] == identity["files"]


def test_through_the_stage_every_box_says_where_it_comes_from(owl: Path, tmp_path: Path) -> None:
    posts = [post("a", make_image(tmp_path / "images", "1.png", 90, 60)), post("b")]
    tables.write_posts(tmp_path / "posts.parquet", posts, LABELS, {})
    tables.write_phrases(tmp_path / "phrases.parquet", [phrases("a", (0, 3))], {})
    config = GroundConfig(grounder="owlv2", weights=str(owl), revision="main")

    def run() -> Tally:
        files = [tmp_path / name for name in ("posts.parquet", "phrases.parquet", "images", "boxes.parquet", "store")]
        return grounding_stage.run(config, *files)

    assert run() == Tally("ground", 3, 3)
    boxes, meta = tables.read_boxes(tmp_path / "boxes.parquet")
    found = boxes["a"]
    digest = digest_file(owl / "model.safetensors")
    assert [(one.text, one.grounder) for one in found] == [
        (text, f"owlv2@{digest[:12]}") for text in ("person", "place", "a tiny dog")
    ]
    image = PIL.Image.open(tmp_path / "images" / "1.png").convert("RGB")
    for one in found:
        expected = direct(owl, image, one.text)
        assert (one.box, one.clamped) == clip(expected.xyxy, 90, 60, 0)
        assert one.score == pytest.approx(expected.score, abs=1e-4)
    told = meta["ground"]
    assert (told["identity"]["weights"], told["config"]["revision"], told["config"]["weights"]) == (
        digest,
        "main",
        owl.name,
    )
    assert (meta["n_cut"], meta["n_too_long"]) == (0, 0)
    assert "transformers" not in str(meta)  # an out is the same under every release that gives the same boxes
    (directory,) = shard_directories(tmp_path / "store")
    assert next(directory.survey()).producer["transformers"] == transformers.__version__
    assert run() == Tally("ground", 3, 0)

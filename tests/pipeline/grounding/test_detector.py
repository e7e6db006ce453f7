"""The detector grounder: heads of phrases, matching with classes, and its quality on photographs."""

import PIL.Image
import pytest
import torch

from pipeline.grounding.config import GroundConfig
from pipeline.grounding.detector import Noun, choose, parse
from pipeline.grounding.grounder import ground_images
from pipeline.grounding.registry import build_grounder
from report.grounding import GoldPhrase, average_precision, fits
from schema.errors import WeightsError
from tests import photos
from vision.detectors import Detections
from vision.nanodet import CLASSES


@pytest.fixture(scope="module")
def grounder():
    return build_grounder(GroundConfig(grounder="detector"))


@pytest.mark.parametrize(
    ("text", "noun"),
    [
        ("the loveliest iron bed", Noun("bed", False, 1)),
        ("two cats on a sofa", Noun("cats", False, 2)),
        ("Thousands of starlings", Noun("starlings", False, 0)),
        ("Little Theo", Noun("Theo", True, 1)),
        ("the Marlins", Noun("Marlins", False, 0)),
        ("Retired fire engine C7", Noun("engine", False, 1)),
        ("Hank 's barn", Noun("barn", False, 1)),
        ("a hot dog", Noun("hot dog", False, 1)),
        ("the bus", Noun("bus", False, 1)),
        ("1890", Noun("1890", False, 1)),
        ("the", Noun("the", False, 1)),
        ("", Noun("", False, 1)),
    ],
)
def test_heads(text, noun):
    assert parse(text, CLASSES) == noun


@pytest.mark.parametrize(
    ("text", "name"),
    [("the puppy", "dog"), ("his new phone", "cell phone"), ("a hot dog", "hot dog"), ("Anna", "person")],
)
def test_the_most_probable_class(grounder, text, name):
    assert CLASSES[grounder.match(text)[0].argmax()] == name


def test_what_no_class_fits_gets_low_probabilities(grounder):
    for text in ("London", "location", "organization", "this morning"):
        assert grounder.match(text)[0].max() < 0.4
    assert grounder.match("person")[0].max() > 0.9


def test_choice_of_a_box():
    boxes = torch.tensor([[0.0, 0, 9, 9], [5, 5, 20, 20], [30, 30, 40, 40]])
    detections = Detections(boxes, torch.tensor([0.8, 0.5, 0.3]), torch.tensor([16, 16, 0]))
    dog = torch.eye(80)[16]
    assert choose(detections, (dog, 1), (50, 50)).xyxy == (0, 0, 9, 9)
    assert choose(detections, (dog, 0), (50, 50)).xyxy == (0, 0, 20, 20)
    assert choose(detections, (dog, 2), (50, 50)).xyxy == (0, 0, 20, 20)
    weak = choose(detections, (dog * 0.1, 1), (50, 40))
    assert (weak.xyxy, round(weak.score, 3)) == ((0, 0, 50, 40), 0.08)
    nothing = Detections(boxes[:0], boxes[:0, 0], detections.classes[:0])
    assert choose(nothing, (dog, 1), (50, 40)).xyxy == (0, 0, 50, 40)


def test_rows_do_not_depend_on_their_company(grounder):
    images = [PIL.Image.effect_noise((90, 60), 80).convert("RGB"), PIL.Image.new("RGB", (40, 300), "red")]
    texts = ["the dog", "Anna", "two cats"]
    together = ground_images(grounder, images, [texts, texts[:1]])
    assert together[0][1:2] == ground_images(grounder, images[:1], [texts[1:2]])[0]
    assert together[1] == ground_images(grounder, images[1:], [texts[:1]])[0]


@photos.needs_photos
def test_quality_on_photographs(grounder):
    right, fitting, visible, scores = 0, 0, [], []
    for row in photos.gold():
        texts = [phrase["text"] for phrase in row["phrases"]]
        image = photos.read(row["image"].removesuffix(".jpg"))
        (found,) = ground_images(grounder, [image], [texts])
        candidates = grounder.candidates(image)
        for phrase, one in zip(row["phrases"], found, strict=True):
            gold = GoldPhrase(row["image"], phrase["text"], (tuple(phrase["box"]),) if phrase["box"] else ())
            right += fits(one.xyxy, gold.boxes)
            fitting += any(fits(box, gold.boxes) for box in candidates)
            visible.append(phrase["box"] is not None)
            scores.append(one.score)
    assert sum(visible) == 59
    assert right / 59 >= 0.65
    assert fitting >= 51, "a phrase that some cell's box fits lost that box before NMS"
    assert average_precision(visible, scores) >= 0.8  # 0.58 of the phrases are visible


def test_a_missing_weights_file_names_the_way_to_it():
    with pytest.raises(
        WeightsError, match=r"no weights 'retinanet_resnet50_fpn_coco-eeacb38b\.pth'.*fmit models fetch"
    ):
        build_grounder(GroundConfig(grounder="detector", detector="retinanet_resnet50_fpn"))

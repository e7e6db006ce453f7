"""Predictions as JSON lines and back."""

import json
from dataclasses import replace

import pytest

from schema.errors import DataError
from schema.prediction import Prediction
from schema.records import Box, Entity, Image, Post, Region, Span

POST = Post(
    "p1",
    "test",
    ("Ann", "Lee", "in", "Rome"),
    "Ann  Lee in Rome!",
    ((0, 3), (5, 8), (9, 11), (12, 16)),
    ("B-PER", "I-PER", "O", "B-LOC"),
    (Image("a/b.jpg", "d" * 64, 30, 20), Image("c.png", state="missing", reason="no such file")),
)
WHOLE = Region("image", "", None, None, 0.0)
PHRASE = Region("phrase", "Ann Lee", Span(0, 2), Box(1, 2, 3, 4, 1), 0.5)
FOUND = [(Entity(Span(0, 2), "PER"), 0.9), (Entity(Span(3, 4), "ORG"), 0.4)]
PREDICTION = Prediction.make(POST, FOUND, (WHOLE, PHRASE))


def test_a_line_by_hand():
    assert PREDICTION.tags == ["B-PER", "I-PER", "O", "B-ORG"]
    phrase = {
        "source": "phrase", "text": "Ann Lee", "start": 0, "end": 2, "image_index": 1,
        "x0": 1, "y0": 2, "x1": 3, "y1": 4, "score": 0.5,
    }  # fmt: skip
    assert PREDICTION.to_json() == {
        "schema_version": 2,
        "id": "p1",
        "post_id": "p1",
        "split": "test",
        "words": ["Ann", "Lee", "in", "Rome"],
        "text": "Ann  Lee in Rome!",
        "offsets": [[0, 3], [5, 8], [9, 11], [12, 16]],
        "images": [
            {
                "name": "a/b.jpg",
                "digest": "d" * 64,
                "width": 30,
                "height": 20,
                "state": "ok",
                "reason": "",
                "synthetic": False,
            },
            {
                "name": "c.png",
                "digest": "",
                "width": 0,
                "height": 0,
                "state": "missing",
                "reason": "no such file",
                "synthetic": False,
            },
        ],
        "gold": [{"start": 0, "end": 2, "type": "PER"}, {"start": 3, "end": 4, "type": "LOC"}],
        "entities": [
            {
                "start": 0,
                "end": 2,
                "type": "PER",
                "text": "Ann  Lee",
                "char_start": 0,
                "char_end": 8,
                "confidence": 0.9,
                "grounded_boxes": [phrase],
            },
            {
                "start": 3,
                "end": 4,
                "type": "ORG",
                "text": "Rome",
                "char_start": 12,
                "char_end": 16,
                "confidence": 0.4,
                "grounded_boxes": [],
            },
        ],
        "objects": [
            {
                "source": "image",
                "text": "",
                "start": None,
                "end": None,
                "image_index": None,
                "x0": None,
                "y0": None,
                "x1": None,
                "y1": None,
                "score": 0.0,
            },
            phrase,
        ],
        "synthetic": False,
    }
    assert Prediction(replace(POST, tags=None)).to_json()["gold"] is None


def lines():
    yield PREDICTION
    yield Prediction.make(replace(POST, tags=None), [(Entity(Span(1, 2), "PER"), None)], synthetic=True)
    yield Prediction(replace(POST, tags=("O",) * 4, images=()))
    yield Prediction(replace(POST, source_id="p/1"))


@pytest.mark.parametrize("prediction", lines())
def test_a_line_reads_back(prediction):
    assert Prediction.from_json(json.loads(json.dumps(prediction.to_json()))) == prediction


def test_the_callers_id_is_kept_and_ours_stands_beside_it():
    prediction = Prediction(replace(POST, id="55_2", source_id="55/2"))
    assert prediction.id == "55/2"
    line = prediction.to_json()
    assert (line["id"], line["post_id"]) == ("55/2", "55_2")
    assert Prediction.from_json(line).post.source_id == "55/2"


def test_a_confidence_that_json_cannot_hold_is_null():
    line = Prediction.make(POST, [(Entity(Span(0, 1), "PER"), float("nan"))]).to_json()
    assert line["entities"][0]["confidence"] is None
    line["entities"][0]["confidence"] = float("inf")
    assert Prediction.from_json(line).entities[0].confidence is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 1}, r"a prediction needs schema version 2 \(found version 1\)"),
        ({"gold": [{"start": 0, "end": 5, "type": "PER"}]}, r"a span beyond the 4 words \(found \[0, 5\)\)"),
        ({"gold": [{"start": 0, "end": 2, "type": "A"}, {"start": 1, "end": 3, "type": "B"}]}, "entities overlap"),
        ({"entities": [{"start": 0, "end": 5, "type": "PER", "confidence": 1}]}, "a span beyond the 4 words"),
        ({"offsets": [[0, 3]]}, "4 words but 1 offsets"),
        ({"text": "Bob  Lee in Rome!"}, "do not hold 'Ann'"),
        ({"images": []}, r"a box in image 1, but the post has 0 image\(s\)"),
        ({"images": [{}]}, "not a prediction .*KeyError 'width'"),
        ({"objects": [{"source": "x", "score": 1}]}, "a known source and a finite score"),
        ({"objects": [{"source": "phrase", "score": float("nan")}]}, "a known source and a finite score"),
    ],
)
def test_a_line_that_breaks_the_contract_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        Prediction.from_json({**PREDICTION.to_json(), **change})


@pytest.mark.parametrize("value", [[], None, "x", {}, {"schema_version": 2}])
def test_what_is_not_a_prediction_is_refused(value):
    with pytest.raises(DataError, match=r"not a prediction|needs schema version"):
        Prediction.from_json(value)

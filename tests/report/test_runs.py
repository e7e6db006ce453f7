import json

import pytest

from report.runs import label_words, read_predictions, read_run
from schema.errors import RunError
from schema.records import Entity, Span
from tests.report.examples import LABELS, Maker, complete, write_json, write_run

PHRASE = {
    "source": "phrase", "text": "a", "start": 0, "end": 1, "image_index": 0, "x0": 5, "y0": 0, "x1": 8, "y1": 9,
    "score": 1.0,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    maker = Maker(3)
    splits = {"dev": [maker.post(at, "dev") for at in range(4)], "test": [maker.post(at) for at in range(6)]}
    return write_run(tmp_path / "smoke-fmit-0", splits)


def test_a_run_is_read_as_it_was_written(folder):
    run = read_run(folder)
    assert run.name == "smoke-fmit-0"
    assert run.types == tuple(LABELS)
    assert list(run.predictions) == list(run.metrics) == ["test", "dev"]
    assert [len(lines) for lines in run.predictions.values()] == [6, 4]
    first = json.loads((folder / "scores/predictions-test.jsonl").read_text().splitlines()[0])
    line = run.predictions["test"][0]
    assert line.post.words == tuple(first["words"])
    assert line.gold == tuple(Entity(Span(one["start"], one["end"]), one["type"]) for one in first["gold"])
    assert [one.confidence for one in line.entities] == [one["confidence"] for one in first["entities"]]
    assert [one.box.xyxy for one in line.objects if one.box] == [
        (one["x0"], one["y0"], one["x1"], one["y1"]) for one in first["objects"] if one["x0"] is not None
    ]
    assert len(run.curves) == 4


def test_labels_keep_their_order():
    pairs = [["PER", "person"], ["LOC", "place"], ["AAA", "thing"]]
    assert list(label_words({"labels": [pairs, []]}).items()) == [tuple(pair) for pair in pairs]
    assert label_words({}) == label_words({"labels": None}) == {}


def test_a_run_is_synthetic_by_its_scores_or_its_pack(tmp_path):
    lines = [Maker().post(0)]
    assert not read_run(write_run(tmp_path / "a", {"test": lines}, train={"allow_synthetic": True})).synthetic
    assert read_run(write_run(tmp_path / "b", {"test": lines}, synthetic=True)).synthetic
    assert read_run(write_run(tmp_path / "c", {"test": lines}, pack={"dim": 8, "synthetic": True})).synthetic


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "elsewhere"}, "unknown split"),
        ({"gold": [{"start": 0, "end": 99, "type": "PER"}]}, "a span beyond the"),
        ({"entities": [{"start": 3, "end": 3, "type": "PER", "confidence": 1}]}, "a span needs 0 <= start < end"),
        ({"entities": [{"start": 0, "end": 1}]}, "KeyError 'type'"),
        ({"schema_version": 1}, r"a prediction needs schema version 2 \(found version 1\).*fmit evaluate"),
        ({"words": None}, "TypeError"),
        ({"objects": [{**PHRASE, "x1": 5}]}, "a box needs"),
        ({"objects": [{**PHRASE, "image_index": 4}]},
         r"a box in image 4, but the post has 1 image\(s\)"),
    ],
)  # fmt: skip
def test_the_error_names_the_bad_line(tmp_path, change, message):
    path = tmp_path / "predictions-test.jsonl"
    good = complete(Maker(1).post(0))
    path.write_text(json.dumps(good) + "\n" + json.dumps({**good, **change}) + "\n")
    with pytest.raises(RunError, match=message) as caught:
        list(read_predictions(path))
    assert str(caught.value).startswith(f"{path}:2: not a readable prediction")


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(RunError, match=r"config\.json: a file of the run is missing; train and evaluate"):
        read_run(tmp_path)
    (folder / "model/config.json").write_text("{")
    with pytest.raises(RunError, match="not readable as JSON"):
        read_run(folder)
    write_json(folder / "model/config.json", {})
    assert read_run(folder).types == tuple(LABELS)  # from the scores
    for path in (folder / "scores").iterdir():
        path.unlink()
    with pytest.raises(RunError, match="the run has no scores; run `fmit evaluate` first"):
        read_run(folder)
    (folder / "curves.json").unlink()
    with pytest.raises(RunError, match="the run has no scores"):
        read_run(folder)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("model/config.json", "[]", r"config\.json: not a JSON object \(found list\)"),
        ("model/config.json", "null", r"config\.json: not a JSON object \(found NoneType\)"),
        ("curves.json", '{"epoch": 1}', r"curves\.json: not a list of epochs"),
        ("curves.json", "[1]", r"curves\.json: not a list of epochs"),
        ("scores/metrics-test.json", '{"strict": {"micro": {"f1"', r"metrics-test\.json: not readable as JSON"),
        ("scores/metrics-test.json", "{}", r"metrics-test\.json: not a file of scores \(found KeyError 'strict'\)"),
        (
            "scores/metrics-test.json",
            '{"strict": {"micro": {}, "types": {}}}',
            "not a file of scores .*KeyError 'precision'",
        ),
        ("scores/metrics-test.json", '{"strict": 3}', "not a file of scores .*TypeError"),
    ],
)
def test_truncated_files_and_those_of_another_kind_are_refused(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(RunError, match=message):
        read_run(folder)

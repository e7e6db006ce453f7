import json

import pytest

from report.runs import label_words, parse_line, read_predictions, read_run
from schema.errors import RunError
from schema.records import Entity, Span
from tests.report.made import LABELS, Maker, write_json, write_run


@pytest.fixture
def folder(tmp_path):
    maker = Maker(3)
    splits = {"dev": [maker.post(at, "dev") for at in range(4)], "test": [maker.post(at) for at in range(6)]}
    return write_run(tmp_path / "smoke-fmit-0", splits)


def test_a_run_is_read_as_it_was_written(folder):
    run = read_run(folder)
    assert run.name == "smoke-fmit-0"
    assert run.types == tuple(LABELS)
    assert list(run.lines) == list(run.metrics) == ["test", "dev"]
    assert [len(lines) for lines in run.lines.values()] == [6, 4]
    first = json.loads((folder / "scores/predictions-test.jsonl").read_text().splitlines()[0])
    line = run.lines["test"][0]
    assert line.words == tuple(first["words"])
    assert line.gold == tuple(Entity(Span(one["start"], one["end"]), one["type"]) for one in first["gold"])
    assert [one.confidence for one in line.predicted] == [one["confidence"] for one in first["entities"]]
    assert [one.xyxy for one in line.things if one.xyxy] == [
        (one["x0"], one["y0"], one["x1"], one["y1"]) for one in first["objects"] if one["x0"] is not None
    ]
    assert len(run.curves) == 4


def test_labels_keep_their_order_in_each_shape():
    pairs = [["PER", "person"], ["LOC", "place"], ["AAA", "thing"]]
    for labels in ([pairs, []], {"labels": dict(pairs), "aliases": {}}, dict(pairs)):
        assert list(label_words({"labels": labels}).items()) == [tuple(pair) for pair in pairs]
    assert label_words({}) == label_words({"labels": None}) == {}


def test_toy_is_said_by_the_scores_or_by_the_pack(tmp_path):
    lines = [Maker().post(0)]
    assert not read_run(write_run(tmp_path / "a", {"test": lines}, train={"allow_synthetic": True})).synthetic
    assert read_run(write_run(tmp_path / "b", {"test": lines}, synthetic=True)).synthetic
    assert read_run(write_run(tmp_path / "c", {"test": lines}, pack={"dim": 8, "synthetic": True})).synthetic


def test_numbers_that_json_does_not_know_are_absent():
    line = Maker(1).post(0)
    line["entities"] = [{"start": 0, "end": 1, "type": "PER", "confidence": float("nan")}]
    line["objects"] = [{"source": "image", "text": "", "start": None, "end": None, "score": float("inf")}]
    found = parse_line(json.loads(json.dumps(line)))
    assert found.predicted[0].confidence is None
    assert (found.things[0].score, found.things[0].xyxy) == (None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "elsewhere"}, "unknown split"),
        ({"gold": [{"start": 0, "end": 99, "type": "PER"}]}, "a span beyond the"),
        ({"entities": [{"start": 3, "end": 3, "type": "PER"}]}, "a span needs 0 <= start < end"),
        ({"entities": [{"start": 0, "end": 1}]}, "KeyError 'type'"),
        ({"words": None}, "TypeError"),
        ({"objects": [{"source": "phrase", "text": "a", "x0": 5, "y0": 0, "x1": 5, "y1": 9}]}, "a box needs"),
        ({"objects": [{"source": "phrase", "text": "a", "x0": 0, "y0": 0, "x1": 5, "y1": 9, "image_index": 4}]},
         "an object on a picture that the post has not"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path, change, message):
    path = tmp_path / "predictions-test.jsonl"
    good = Maker(1).post(0)
    path.write_text(json.dumps(good) + "\n" + json.dumps({**good, **change}) + "\n")
    with pytest.raises(RunError, match=message) as caught:
        list(read_predictions(path))
    assert str(caught.value).startswith(f"{path}:2: not a line of predictions")


def test_what_is_missing_is_said(folder, tmp_path):
    with pytest.raises(RunError, match=r"config\.json: a file of the run is missing; train and evaluate"):
        read_run(tmp_path)
    (folder / "model/config.json").write_text("{")
    with pytest.raises(RunError, match="not readable as JSON"):
        read_run(folder)
    write_json(folder / "model/config.json", {})
    assert read_run(folder).types == tuple(LABELS)  # from the scores
    for path in (folder / "scores").iterdir():
        path.unlink()
    with pytest.raises(RunError, match="no scores in the run; run `fmit evaluate` first"):
        read_run(folder)
    (folder / "curves.json").unlink()
    with pytest.raises(RunError, match="no scores"):
        read_run(folder)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("model/config.json", "[]", r"config\.json: not a JSON object \(found list\)"),
        ("model/config.json", "null", r"config\.json: not a JSON object \(found NoneType\)"),
        ("curves.json", '{"epoch": 1}', r"curves\.json: no list of epochs"),
        ("curves.json", "[1]", r"curves\.json: no list of epochs"),
        ("scores/metrics-test.json", '{"strict": {"micro": {"f1"', r"metrics-test\.json: not readable as JSON"),
        ("scores/metrics-test.json", "{}", r"metrics-test\.json: no scores \(found KeyError 'strict'\)"),
        ("scores/metrics-test.json", '{"strict": {"micro": {}, "types": {}}}', "no scores .*KeyError 'precision'"),
        ("scores/metrics-test.json", '{"strict": 3}', "no scores .*TypeError"),
    ],
)
def test_files_cut_short_or_of_another_kind_are_said(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(RunError, match=message):
        read_run(folder)

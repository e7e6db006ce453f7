"""Posts, boxes and scores to look at: show, sheet, export, compare, grounding."""

import csv
import json
import shutil

import pytest

from synthetic.draw import DrawConfig
from synthetic.draw import run as draw
from tests.report.test_gold_boxes import xml


def test_show_prints_words_phrases_and_objects_with_head_and_tail(fmit):
    printed = fmit("show", "test-00000", "--dataset", "own").stdout
    for part in ("test-00000", "normalized words", "noun phrases", "objects of the lattice", "head", "miscellaneous"):
        assert part in printed


def test_show_writes_a_page(fmit, tmp_path):
    page = tmp_path / "post.html"
    assert fmit("show", "test-00000", "--dataset", "own", "--html", page).exit_code == 0
    assert "test-00000" in page.read_text()


def test_show_says_when_there_is_no_such_post(fmit):
    result = fmit("show", "nobody", "--dataset", "own")
    assert result.exit_code == 1
    assert "no post 'nobody'" in result.stderr


def test_a_sheet_holds_the_images(fmit, tmp_path):
    page = tmp_path / "sheet.html"
    assert fmit("sheet", "own", "--out", page).exit_code == 0
    assert "data:image/" in page.read_text()


def test_entities_as_a_table(fmit, trained, tmp_path):
    out = tmp_path / "entities.csv"
    result = fmit("export", "--run", trained.run("own", "fmit", 0), "--out", out)
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert result.stdout.startswith(f"{len(rows)} entities")
    assert rows


def test_redaction_is_for_pages(fmit):
    result = fmit("show", "test-00000", "--dataset", "own", "--redact")
    assert result.exit_code == 2
    assert "--redact needs --html FILE" in result.stderr


def test_a_tables_suffix_says_what_is_written(fmit, trained, tmp_path):
    result = fmit("export", "--run", trained.run("own", "fmit", 0), "--out", tmp_path / "entities.xlsx")
    assert result.exit_code == 2
    assert "entities.xlsx' must end in .csv or .json" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_that_nobody_named(fmit, tmp_path):
    for call in (("show", "x", "--dataset", "onw"), ("sheet", "onw", "--out", tmp_path / "sheet.html")):
        result = fmit(*call)
        assert result.exit_code == 1
        assert "unknown dataset 'onw'" in result.stderr
    assert fmit("sheet", "own", "--out", tmp_path / "sheet.html", "--posts", 0).exit_code == 2


def test_comparing_a_run_with_itself(fmit, trained, tmp_path):
    run = trained.run("own", "fmit", 0)
    printed = fmit("compare", run, run).stdout
    assert "0 of 4 posts differ" in printed
    assert "difference +0.0000, 95% interval +0.0000 to +0.0000, p = 1.0000, synthetic models" in printed


def test_runs_that_differ_in_json_and_as_a_page(fmit, trained, tmp_path):
    run, other = trained.run("own", "fmit", 0), tmp_path / "other"
    shutil.copytree(run, other)
    path = other / "scores" / "predictions-dev.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["entities"] = [{**lines[2]["gold"][0], "confidence": 0.5}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = tmp_path / "page.html"
    result = fmit("compare", run, other, "--split", "dev", "--json", "--html", page)
    found = json.loads(result.stdout)
    assert [one["id"] for one in found["differences"]] == [lines[2]["id"]]
    assert found["n_resamples"] == 10_000
    assert lines[2]["id"] in page.read_text()
    printed = fmit("compare", run, other, "--html", page).stdout
    assert "1 of 4 posts differ" in printed
    assert lines[2]["id"] in printed


def test_a_folder_that_is_not_a_run(fmit, trained, tmp_path):
    result = fmit("compare", trained.run("own", "fmit", 0), tmp_path)
    assert result.exit_code == 1
    assert "a file of the run is missing" in result.stderr


def test_gold_boxes_as_xml(fmit, trained, tmp_path):
    run = trained.run("own", "fmit", 0)
    lines = [json.loads(text) for text in (run / "scores" / "predictions-dev.jsonl").read_text().splitlines()]
    words = lines[0]["words"]
    names = [" ".join(words[one["start"] : one["end"]]) for one in lines[0]["gold"]]
    (tmp_path / f"{lines[0]['id']}.xml").write_text(xml((names[0], (0, 0, 9, 9)), ("Ghost", (0, 0, 9, 9))))
    printed = fmit("grounding", "--run", run, "--gold", tmp_path, "--split", "dev").stdout
    n_gold = sum(len(one["gold"]) for one in lines)
    assert f"1 of {n_gold} gold entities have a box in 1 files; 1 names match no entity" in printed
    assert "synthetic models" in printed
    found = json.loads(fmit("grounding", "--run", run, "--gold", tmp_path, "--json").stdout)
    assert found["scores"]["GMNER"]["n_gold"] == n_gold
    assert found["scores"]["GMNER"]["n_correct"] <= found["scores"]["MNER"]["n_correct"]


def test_gold_of_a_drawn_dataset(fmit, trained, tmp_path):
    draw(DrawConfig(n_train=0, n_dev=80, n_test=0), tmp_path / "drawn")
    run = trained.run("own", "fmit", 0)
    found = fmit("grounding", "--run", run, "--gold", tmp_path / "drawn", "--min-score", 2)
    assert found.exit_code == 0, found.output
    assert " gold entities have a box" in found.stdout
    assert not found.stdout.startswith("0 of")


def test_what_is_not_there(fmit, trained, tmp_path):
    run = trained.run("own", "fmit", 0)
    result = fmit("grounding", "--run", run, "--gold", tmp_path, "--split", "train")
    assert (result.exit_code, "not scored on train" in result.stderr) == (1, True)
    result = fmit("grounding", "--run", run, "--gold", tmp_path)
    assert (result.exit_code, "no gold boxes of these posts" in result.stderr) == (1, True)
    result = fmit("grounding", "--run", run, "--gold", tmp_path / "nowhere")
    assert (result.exit_code, "nowhere' does not exist" in result.stderr) == (2, True)
    (tmp_path / "gold.jsonl").write_text("")
    result = fmit("grounding", "--run", run, "--gold", tmp_path)
    assert result.exit_code == 1
    assert "gold.jsonl: no gold boxes of these posts (found 0 other posts); give the folder of" in result.stderr


@pytest.mark.parametrize("score", ["nan", "inf", "-inf"])
def test_a_least_score_is_a_number(fmit, trained, tmp_path, score):
    result = fmit("grounding", "--run", trained.run("own", "fmit", 0), "--gold", tmp_path, f"--min-score={score}")
    assert result.exit_code == 2
    assert f"Invalid value for '--min-score': {score} is not a finite number." in result.stderr

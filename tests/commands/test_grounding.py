import json

import pytest

from synthetic.draw import DrawConfig
from synthetic.draw import run as draw
from tests.report.test_gold_boxes import xml


def test_gold_boxes_as_xml(fmit, trained, tmp_path):
    run = trained.run("own", "fmit", 0)
    lines = [json.loads(text) for text in (run / "scores" / "predictions-dev.jsonl").read_text().splitlines()]
    words = lines[0]["words"]
    names = [" ".join(words[one["start"] : one["end"]]) for one in lines[0]["gold"]]
    (tmp_path / f"{lines[0]['id']}.xml").write_text(xml((names[0], (0, 0, 9, 9)), ("Ghost", (0, 0, 9, 9))))
    printed = fmit("grounding", "--run", run, "--gold", tmp_path, "--split", "dev").stdout
    n_gold = sum(len(one["gold"]) for one in lines)
    assert f"1 of {n_gold} gold entities have a box in 1 files; 1 names are no entity" in printed
    assert "synthetic parts" in printed
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

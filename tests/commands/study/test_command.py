"""`fmit tables` as people use it, on a few posts."""

import json
import time

import pytest
from click.testing import CliRunner

import cli
from commands.study import command, steps, tiny
from commands.study.command import TABLES, choose
from commands.study.tiny import DATASETS
from report.results import published
from tests.commands.study.made_study import make_study


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    make_study(root, ("fmit", "bert-crf", "umt", "fmit-random-boxes"))
    rows = [{"approach": "umgf", "seconds": 0.4, "speedup": 1.0, "parameters": 9e6, "padded_speedup": None}]
    (root / "fusion.json").write_text(json.dumps({"rows": rows, "notes": ["measured nowhere"]}))
    return root


def call(home, *arguments):
    result = CliRunner().invoke(cli.main, ["tables", "--params", str(home / "params.yaml"), *arguments])
    assert result.exit_code == 0, result.output
    return result


def test_one_command_makes_the_tables_and_a_second_trains_nothing(home):
    first = call(home, "--only", "4", "--only", "3", "--approach", "fmit", "--approach", "bert-crf")
    assert "4 runs trained, 4 scored" in first.stderr
    assert "4 runs scored on the other dataset" in first.stderr
    assert "### Table 4: cross-domain, tiny to tiny-other, test split" in first.stdout
    assert "| UMGF | 1.00 | 231 | 400.00 | 1.00 | 9.00 | – |  |" in first.stdout
    assert "measured nowhere" in first.stdout
    assert "Table 2" not in first.stdout
    assert f"open {home / 'results' / 'index.html'}" in first.stdout
    again = call(home, "--only", "4", "--approach", "fmit", "--approach", "bert-crf")
    assert "0 runs trained, 0 scored" in again.stderr
    assert "0 runs scored on the other dataset" in again.stderr
    text = (home / "results" / "tables.md").read_text()
    assert "| UMT | – | – | – | – | – | – | – | not run: no fresh run |" in text


def test_a_step_alone(home):
    said = call(home, "--step", "train", "--approach", "fmit", "--dataset", "tiny")
    assert said.stdout == ""
    assert "runs trained" in said.stderr


def test_what_a_table_needs(home):
    study = make_study(home, tuple(published().approaches("table2", "table4", "table5")))
    five = choose(study, ("5",), (), (), ())
    assert set(five.approaches) == set(published().approaches("table5"))
    assert {unit.dataset for unit in five.units} == set(DATASETS)
    everything = choose(study, TABLES, (), (), ())
    assert {unit.approach for unit in everything.units if unit.dataset == DATASETS[0]} == set(study.asked.approaches)
    other = {unit.approach for unit in everything.units if unit.dataset == DATASETS[1]}
    assert other == set(published().approaches("table4"))
    assert choose(study, ("3",), (), (), ()).units == ()
    make_study(home, ("fmit", "bert-crf", "umt", "fmit-random-boxes"))


def test_only_the_rows_of_table_4_are_crossed(home, monkeypatch):
    asked = []
    monkeypatch.setattr(steps, "cross_all", lambda study, approaches, *rest: asked.append(approaches))
    make_study(home, ("bert", "fmit", "fmit-l1", "umt"))
    call(home, "--step", "cross")
    assert asked == [["fmit", "umt"]]
    make_study(home, ("fmit", "bert-crf", "umt", "fmit-random-boxes"))


def test_a_name_that_the_params_lack(home):
    result = CliRunner().invoke(cli.main, ["tables", "--params", str(home / "params.yaml"), "--dataset", "smoke"])
    assert result.exit_code == 1
    assert "smoke is not among the tables' datasets (found tiny, tiny-other)" in result.stderr


def test_no_params_file(tmp_path):
    result = CliRunner().invoke(cli.main, ["tables", "--params", str(tmp_path / "none.yaml")])
    assert result.exit_code == 1
    assert "parameter file not found" in result.stderr


def test_tiny_leaves_a_params_file_beside_its_results_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "_draw", lambda *whatever: None)
    monkeypatch.setattr(command, "run_steps", lambda *whatever: None)
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "params.yaml"
    mine.write_text("datasets: [mine]\n")
    result = CliRunner().invoke(cli.main, ["tables", "--tiny", "--out", "results"])
    assert result.exit_code == 0, result.output
    assert mine.read_text() == "datasets: [mine]\n"
    assert (tmp_path / "results-study" / "params.yaml").is_file()


@pytest.mark.long
def test_all_of_tiny_within_15_minutes_and_a_second_call_trains_nothing(tmp_path):
    start = time.process_time()
    out = str(tmp_path / "results")
    first = CliRunner().invoke(cli.main, ["tables", "--tiny", "--out", out, "--device", "cpu"])
    assert first.exit_code == 0, first.output
    assert time.process_time() - start < 15 * 60
    again = CliRunner().invoke(cli.main, ["tables", "--tiny", "--out", out, "--device", "cpu"])
    assert "\n0 runs trained, 0 scored, 0 left out\n" in again.stderr
    assert "epoch" not in again.stderr
    text = (tmp_path / "results" / "tables.md").read_text()
    ours = [
        part
        for part in text.split("### ")
        if part.startswith(("Table 2: approaches, tiny,", "Table 5: ablations, tiny,"))
    ]
    assert len(ours) == 2
    assert not any("not run" in part for part in ours)
    for name in ("figure3-tiny-1", "figure4-tiny", "calibration-tiny", "breakdown-tiny", "grounding-tiny", "table3"):
        assert (tmp_path / "results" / f"{name}.csv").is_file()

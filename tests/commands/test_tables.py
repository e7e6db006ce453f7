"""`fmit tables` on a project with a few synthetic posts: which runs are rows, and what is written."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import cli
import pages
from pipeline.engine import silent
from project import Project
from schema.records import Split
from synthetic.draw import GOLD_FILE, gold, gold_lines
from synthetic.posts import draft
from synthetic.scenes import compose, dataset_rng
from tests import own
from tests.model.tiny import write_encoder

SIZES: dict[Split, int] = {"train": 6, "dev": 4, "test": 4}
SOURCE = {"preset": "jsonl"}


def params(root: Path) -> dict:
    train = {"encoder": str(root / "encoder"), "max_pieces": 32, "width": 16, "heads": 2, "epochs": 1}
    block = {
        "source": SOURCE,
        "phrases": {"preset": "embedded"},
        "ground": {"preset": "synthetic"},
        "regions": {"preset": "synthetic", "n_buckets": 8, "grid": True},
        "train": {"preset": "tiny", **train},
    }
    random = block | {"ground": {"grounder": "random"}}
    return {
        "datasets": ["own", "other", "own-random"],
        "train_on": ["own"],
        "approaches": ["fmit", "bert-crf"],
        "seeds": [0, 1],
        "evaluate": {"splits": ["dev", "test"]},
        "data": {"own": block, "other": block, "own-random": random},
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two runs of fmit, one of bert-crf and the control on `own`; fmit scored on `other` too."""
    root = tmp_path_factory.mktemp("tables")
    write_encoder(root / "encoder")
    (root / "params.yaml").write_text(yaml.safe_dump(params(root)))
    for name in ("own", "own-random"):
        write_synthetic(root / "data" / name)
    own.write_posts(root / "data" / "other", {"train": 4, "dev": 2, "test": 3})
    project = Project.open(root / "params.yaml")
    for name in project.params.datasets:
        for stage in (project.ingest, project.phrases, project.ground, project.regions):
            stage(name, silent)
    units = [("own", "fmit", 0), ("own", "fmit", 1), ("own", "bert-crf", 0), ("own-random", "fmit", 0)]
    for unit in units:
        list(project.train(*unit, device="cpu"))
        project.evaluate(project.run(*unit), dataset=unit[0], device="cpu")
    project.evaluate(project.run("own", "fmit", 0), dataset="other", device="cpu")
    rows = [{"approach": "umgf", "seconds": 0.4, "speedup": 1.0, "parameters": 9e6, "padded_speedup": None}]
    (root / "fusion.json").write_text(json.dumps({"rows": rows, "notes": ["measured nowhere"]}))
    return root


def write_synthetic(folder: Path) -> None:
    """Posts with the gold boxes that `fmit draw` writes."""
    own.write_posts(folder, SIZES)
    drafts = [draft(0, split, k) for split, size in SIZES.items() for k in range(size)]
    posts = [gold(one, compose(dataset_rng(0, one.number), one.objects)) for one in drafts]
    (folder / GOLD_FILE).write_text(gold_lines(posts), encoding="utf-8")


@pytest.fixture
def copy(home, tmp_path):
    """The project in another folder, to be changed."""
    shutil.copytree(home, tmp_path / "copy")
    return tmp_path / "copy"


def call(root, *arguments, code=0):
    result = CliRunner().invoke(cli.main, ["tables", "--params", str(root / "params.yaml"), *arguments])
    assert result.exit_code == code, result.output
    return result


def section(root, title):
    """A table of tables.md by the beginning of its title."""
    text = (root / "tables" / "tables.md").read_text(encoding="utf-8")
    return next(part for part in text.split("### ") if part.startswith(title))


def test_the_tables_report_the_runs_and_train_nothing(home):
    before = {path: path.stat().st_mtime_ns for path in (home / "runs").rglob("*")}
    printed = call(home).stdout
    assert {path: path.stat().st_mtime_ns for path in (home / "runs").rglob("*")} == before
    assert "### Table 5: ablations, own, test split" in printed
    assert "mean ± standard deviation over 2 seeds (0, 1)" in printed
    assert "Trained on 6 posts." in printed
    assert "| UMGF | 1.00 | 231 | 400.00 | 1.00 | 9.00 | – |  |" in printed
    assert "measured nowhere" in printed
    assert "### Table 4: cross-domain, own to other, test split" in printed
    assert "Twitter" not in printed  # tables without figures of ours are written, not printed
    assert f"open {home / 'tables' / 'index.html'}" in printed
    names = {path.name for path in (home / "tables").iterdir()}
    assert {"grounding-own.csv", "figure4-own.csv", "calibration-own.csv", "breakdown-own.csv", "table3.csv"} <= names
    assert "w/o EBD | – | – | – | – | – | – | – | not run" in section(home, "Table 5: ablations, own")


def test_only_prints_the_named_tables(home):
    printed = call(home, "--only", "4").stdout
    assert "Table 4" in printed
    assert "Table 5" not in printed


def test_a_row_is_every_run_that_its_settings_would_train(home):
    runs = pages.run_set(Project.open(home / "params.yaml"))
    assert tuple(runs.posts) == ("own", "other")
    fmit = {"own": home / "runs/own-fmit-0/scores", "other": home / "runs/own-fmit-0/on/other/scores"}
    assert runs.runs["own", "fmit", 0] == fmit == runs.runs["own", "fmit-l1", 0]  # the preset has one layer
    assert ("own", "fmit-l3", 0) not in runs.runs
    assert runs.seeds == (0, 1)
    control = runs.runs["own", "fmit-random-boxes", 0]
    assert control == {"own": home / "runs/own-random-fmit-0/scores"}
    assert runs.remark("own", "bert-crf") == "1 of 2 seeds"


def test_runs_of_other_settings_or_features_are_left_out(copy):
    values = yaml.safe_load((copy / "params.yaml").read_text())
    values["data"]["own"]["train"]["epochs"] = 2
    (copy / "params.yaml").write_text(yaml.safe_dump(values))
    runs = pages.run_set(Project.open(copy / "params.yaml"))
    assert runs.scored("own") == []
    assert runs.remark("own", "fmit").startswith("not run: own-fmit-")
    assert runs.remark("own", "fmit").endswith("was trained with other settings or features: run `dvc repro`")


def test_without_a_dataset_of_random_boxes_the_control_says_so(copy):
    values = yaml.safe_load((copy / "params.yaml").read_text())
    values["data"]["own-random"]["ground"] = {"preset": "embedded"}
    (copy / "params.yaml").write_text(yaml.safe_dump(values))
    runs = pages.run_set(Project.open(copy / "params.yaml"))
    reason = "not run: no dataset with the same posts and `ground: {grounder: random}`"
    assert runs.remark("own", "fmit-random-boxes") == reason


def test_a_run_on_random_boxes_is_no_other_row(copy):
    """Nor where the features are gone, so that settings and posts alone are compared."""
    shutil.rmtree(copy / "out/own/pack")
    for seed in (0, 1):
        shutil.rmtree(copy / f"runs/own-fmit-{seed}")
    assert "fmit" not in pages.run_set(Project.open(copy / "params.yaml")).scored("own")


def test_scores_on_random_boxes_do_not_replace_those_of_the_run(copy):
    """The two datasets share their posts."""
    project = Project.open(copy / "params.yaml")
    before = (copy / "runs/own-fmit-0/scores/metrics-test.json").read_bytes()
    project.evaluate(copy / "runs/own-fmit-0", dataset="own-random", device="cpu")
    assert (copy / "runs/own-fmit-0/scores/metrics-test.json").read_bytes() == before
    assert (copy / "runs/own-fmit-0/on/own-random/scores/metrics-test.json").is_file()
    runs = pages.run_set(project)
    assert runs.runs["own", "fmit", 0]["own"] == copy / "runs/own-fmit-0/scores"


def test_random_boxes_are_a_dataset_where_no_other_has_its_posts(copy):
    values = yaml.safe_load((copy / "params.yaml").read_text()) | {"datasets": ["own-random"], "train_on": []}
    (copy / "params.yaml").write_text(yaml.safe_dump(values))
    runs = pages.run_set(Project.open(copy / "params.yaml"))
    assert tuple(runs.posts) == ("own-random",)
    assert "fmit" in runs.scored("own-random")


def test_runs_without_their_features_are_compared_by_settings_and_posts(copy):
    shutil.rmtree(copy / "out/own/pack")
    shutil.copytree(copy / "out/own-random/pack", copy / "out/own/pack")
    assert "fmit" not in pages.run_set(Project.open(copy / "params.yaml")).scored("own")
    shutil.rmtree(copy / "out/own/pack")
    assert "fmit" in pages.run_set(Project.open(copy / "params.yaml")).scored("own")


def test_scores_of_older_weights_are_left_out(copy):
    shutil.copy(copy / "runs/own-fmit-1/scores/metrics-test.json", copy / "runs/own-fmit-0/scores/metrics-test.json")
    runs = pages.run_set(Project.open(copy / "params.yaml"))
    assert list(runs.folders("own", "fmit")) == [1]
    assert runs.remark("own", "fmit") == "1 of 2 seeds: 1 not scored on own, test split"


def test_grounding_quality_is_that_of_the_synthetic_gold(home):
    call(home)
    text = section(home, "Grounding quality, own, test split")
    assert {"| FMIT |", "| control: random boxes |"} <= {
        line[: line.index("|", 1) + 1] for line in text.splitlines() if line.startswith("| ")
    }


def test_a_project_without_runs(copy):
    shutil.rmtree(copy / "runs")
    printed = call(copy).stdout
    assert "### Table 1: own" in printed
    assert "Table 5" not in printed
    assert "not run" in section(copy, "Table 5: ablations, own")


def test_a_folder_with_other_files_is_refused_first(home, monkeypatch):
    monkeypatch.setattr(pages, "run_set", lambda project: pytest.fail("too late"))
    result = call(home, "--out", str(home / "data"), code=1)
    assert "refusing to replace a folder" in result.stderr

"""tables/dvc.yaml says what the commands do: options exist, folders of code hold what the steps import, outs fit."""

import shlex

import pytest
import yaml
from click.testing import CliRunner

import cli
from commands.study.command import STEPS
from commands.study.study import StudyParams
from tests import own
from tests.imports import ROOT, closure

FOLDER = ROOT / "tables"
STAGES = yaml.safe_load((FOLDER / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ENTRIES = {  # the modules whose imports must lie in a stage's folders of code
    "prepare": (
        "pipeline.corpus.stage",
        "pipeline.phrases.stage",
        "pipeline.grounding.stage",
        "pipeline.regions.stage",
    ),
    "train": ("model.train", "model.evaluate"),
    "ground": ("pipeline.grounding.stage", "pipeline.regions.stage", "model.train", "model.evaluate"),
}


def test_a_stage_is_a_step():
    assert tuple(STAGES) == ("prepare", "train", "cross", "ground", "measure", "publish")
    assert set(STAGES) == set(STEPS)


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_takes_its_options(stage):
    shell, wrapper, name, *options = shlex.split(STAGES[stage]["cmd"])
    assert (shell, wrapper, name) == ("sh", "../bin/fmit", "tables")
    assert options[:4] == ["--params", "params.yaml", "--step", stage]
    known = {option for parameter in cli.main.commands["tables"].params for option in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known


@pytest.mark.parametrize("stage", ENTRIES)
def test_the_folders_of_code_hold_what_the_step_imports(stage):
    folders = [dep.removeprefix("../") for dep in STAGES[stage]["deps"] if dep.startswith("../")]
    for entry in ENTRIES[stage]:
        outside = [path for path in closure(entry) if path.split("/")[0] not in folders]
        assert not outside


def test_the_tables_are_published_anew_when_what_they_hold_changes():
    own_file = {name for name in STAGES["publish"]["params"] if isinstance(name, str)}
    assert own_file == StudyParams.model_fields.keys() - {"project", "tiny"}  # where the project is, and a mark


def test_every_out_is_ignored_by_git():
    ignored = (FOLDER / ".gitignore").read_text().split()
    outs = {out.split("/")[0] for stage in STAGES.values() for out in stage["outs"]}
    assert {f"/{out}" for out in outs} <= set(ignored)


PARAMS = own.PARAMS.replace("{preset: tiny, epochs: 1}", "{preset: tiny, epochs: 1, width: 16, heads: 2}")
STUDY = """
project: ../params.yaml
datasets: [own]
approaches: [fmit-l1, bert-crf]
seeds: [0]
splits: [dev]
crossings: []
train: {}
n_cases: 2
"""


@pytest.mark.long
def test_the_tables_by_dvc_and_a_second_time_nothing(tmp_path):
    import shutil

    made = own.make(tmp_path, PARAMS)
    made.patience_s = 1500
    shutil.copytree(ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tables").mkdir()
    for name in ("dvc.yaml", ".gitignore"):
        shutil.copy(FOLDER / name, tmp_path / "tables" / name)
    shutil.copy(ROOT / ".dvcignore", tmp_path / ".dvcignore")
    (tmp_path / "tables" / "params.yaml").write_text(STUDY)
    (tmp_path / "tables" / "fusion.json").write_text('{"rows": []}')
    made.dvc("commit", "-f", "tables/dvc.yaml:measure")  # a minute of measuring that this test is not about
    printed = made.dvc("repro", "tables/dvc.yaml")
    assert printed.count("Running stage") == 6
    assert "| BERT-CRF |" in (tmp_path / "tables" / "results" / "tables.md").read_text()
    assert "Running stage" not in made.dvc("repro", "tables/dvc.yaml")
    study = tmp_path / "tables" / "params.yaml"
    study.write_text(STUDY.replace("approaches: [fmit-l1, ", "approaches: [fmit-l1, bert, "))
    printed = made.dvc("repro", "tables/dvc.yaml")
    assert "train@own-bert-0" in printed
    assert "Running stage 'tables/dvc.yaml:train@own-fmit-l1-0'" not in printed
    again = CliRunner().invoke(cli.main, ["tables", "--params", str(study), "--step", "train"])
    assert "0 runs trained, 0 scored" in again.stderr

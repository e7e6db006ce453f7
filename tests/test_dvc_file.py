"""dvc.yaml says what the code says: commands exist, code dependencies are the imports, sections are there."""

import shlex
from pathlib import Path

import pytest
import yaml

import cli
from tests.imports import ENTRIES, ROOT, closure

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def block(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def test_the_stages_are_those_with_an_entry():
    assert list(STAGES) == list(ENTRIES)


@pytest.mark.parametrize("stage", ENTRIES)
def test_the_command_exists(stage):
    commands = block(stage)["cmd"]
    for command in [commands] if isinstance(commands, str) else commands:
        shell, wrapper, name, *options = shlex.split(command)
        assert (shell, wrapper) == ("sh", "bin/fmit")
        known = {option for parameter in cli.main.commands[name].params for option in parameter.opts}
        assert {option for option in options if option.startswith("--")} <= known


@pytest.mark.parametrize("stage", ENTRIES)
def test_code_dependencies_are_what_the_entry_imports(stage):
    code = [dep for dep in block(stage)["deps"] if dep.endswith(".py")]
    assert code == closure(*ENTRIES[stage]), "run make deps"


def test_embedded_weights_are_dependencies_of_the_stage_that_reads_them():
    weights = {path.name for path in (ROOT / "weights").glob("*.safetensors")}
    named = {Path(dep).name for stage in STAGES for dep in block(stage)["deps"] if dep.endswith(".safetensors")}
    assert named == weights


def test_training_does_not_depend_on_region_code():
    """`vision/` alone is shared: `vision.finetune` cuts and computes crops in training."""
    code = closure(*ENTRIES["train"])
    assert not [path for path in code if path.startswith(("pipeline/", "embedded/", "report/"))]

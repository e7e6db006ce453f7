"""Completion: the script that a shell loads, and the datasets, runs and approaches that it is offered."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
from tests import own

FMIT = Path(sys.executable).parent / "fmit"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "params.yaml").write_text(own.PARAMS.replace("approaches: [fmit]", "approaches: [fmit, bert-crf]"))
    for name in ("own-fmit-0", "own-fmit-1", "other"):
        (tmp_path / "runs" / name / "model").mkdir(parents=True)
        (tmp_path / "runs" / name / "model" / "config.json").write_text(json.dumps({}))
    (tmp_path / "runs" / "half-done").mkdir()
    return tmp_path


def offered(folder: Path, line: str) -> list[str]:
    """The completions that bash gets for the last word of a line."""
    words = f"fmit {line}"
    environment = {**os.environ, "_FMIT_COMPLETE": "bash_complete", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    done = subprocess.run([FMIT], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [row.split(",", 1)[1] for row in done.stdout.splitlines() if row]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("inge", ["ingest"]),
        ("ingest ", ["own"]),
        ("ingest x", []),
        ("show 1 --dataset o", ["own"]),
        ("cache verify --dataset ", ["own"]),
        ("train --approach b", ["bert-crf"]),
        ("evaluate --run ", ["runs/other", "runs/own-fmit-0", "runs/own-fmit-1"]),
        ("report --run runs/own", ["runs/own-fmit-0", "runs/own-fmit-1"]),
        ("train --device ", []),
    ],
)
def test_names_of_the_project_are_offered(project, line, names):
    assert offered(project, line) == names


def test_another_params_file_is_looked_at(project, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    assert offered(away, "ingest ") == []
    assert offered(away, "ingest --params ../params.yaml ") == ["own"]
    assert offered(away, "report --params ../params.yaml --run ../runs/oth") == ["../runs/other"]


@pytest.mark.parametrize("text", ["data: [", "[1]", "data: 3", ""])
def test_a_broken_params_file_offers_nothing_and_says_nothing(project, text):
    (project / "params.yaml").write_text(text)
    assert offered(project, "ingest ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_shells_own_language(shell):
    result = CliRunner().invoke(cli.main, ["completion", shell])
    assert result.exit_code == 0
    assert "_FMIT_COMPLETE" in result.stdout
    assert result.stderr == ""  # a shell evaluates it at each start
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=result.stdout, text=True, check=True)


def test_bash_completes_with_it(tmp_path):
    script = CliRunner().invoke(cli.main, ["completion", "bash"]).stdout
    done = subprocess.run(["bash", "-c", f"{script}\ncomplete -p fmit"], capture_output=True, text=True, check=True)
    assert "_fmit_completion fmit" in done.stdout


def test_another_shell_is_a_wrong_call():
    result = CliRunner().invoke(cli.main, ["completion", "tcsh"])
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.stderr

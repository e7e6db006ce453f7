"""docs/start.md as a newcomer follows it: its shell blocks, word for word, in a project of their own."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import own
from tests.imports import ROOT

PAGE = ROOT / "docs" / "start.md"
pytestmark = pytest.mark.timeout(1200)  # a dozen programs start: 40 s of a processor, minutes on a crowded machine
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def venv(root: Path) -> None:
    """A `.venv` that is installed: programs of this one, with the project's own code first."""
    programs = root / ".venv" / "bin"
    programs.mkdir(parents=True)
    here = Path(sys.executable)
    for name, call in (("python", here), ("fmit", f'{here}" -m "cli'), ("dvc", here.parent / "dvc")):
        (programs / name).write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{call}" "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    (root / ".venv" / "installed").touch()


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The project after the whole page, and what was printed."""
    made = own.make(tmp_path_factory.mktemp("start"))
    shutil.rmtree(made.root / "data")
    venv(made.root)
    environment = {name: value for name, value in made.env.items() if name != "FMIT"}
    printed = []
    for block in BLOCKS:
        done = subprocess.run(
            ["sh", "-eu"], input=block, cwd=made.root, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout)
    return made.root, printed


def test_the_page_ends_in_predictions_and_a_report(walked):
    root, printed = walked
    lines = [json.loads(line) for line in (root / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == ["4", "5"]
    assert [image["state"] for line in lines for image in line["images"]] == ["ok"]
    page = root / "runs/mine-fmit-0/report.html"
    assert "Genoa" in page.read_text(encoding="utf-8")
    assert any(f"open {page}" in one for one in printed)


def test_doctor_finds_no_problem_on_the_way(walked):
    (printed,) = (one for one in walked[1] if "problem(s)" in one)
    assert "0 problem(s)" in printed
    assert "3 posts (train 2, dev 1)" in printed


def test_the_commands_that_the_page_names_exist():
    import cli

    named = set(re.findall(r"fmit ([a-z]+)", PAGE.read_text(encoding="utf-8"))) - {"load"}
    assert named <= set(cli.main.commands), named - set(cli.main.commands)

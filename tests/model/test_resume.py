"""Killed after any step and started again: the weights, to the last bit, of a run that was never stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from model.trainer import Checkpointer, Trainer, put_tensors, tensors_of
from schema.errors import RunError
from tests.model.test_fit import make, results, weights


class Killed(Exception):
    """Stands for a kill: nothing after it runs."""


class Killer(Checkpointer):
    """Saves after each step and dies at the n-th offer, before or after saving."""

    def __init__(self, folder: Path, dies_at: int, saves: bool) -> None:
        super().__init__(folder, every_s=0)
        self.left, self.saves = dies_at, saves

    def offer(self, trainer: Trainer) -> None:
        self.left -= 1
        if self.left > 0 or self.saves:
            super().offer(trainer)
        if self.left == 0:
            raise Killed


CHANGES = {"batch": 8, "accumulate": 2, "warmup": 0.2, "schedule": "linear"}  # 2 steps an epoch, 2 epochs


@pytest.fixture(scope="module")
def unbroken(encoder: Path) -> tuple[list[dict[str, float | int]], torch.Tensor]:
    trainer = make(encoder, name="fmit", **CHANGES)
    return results(trainer), weights(trainer)


@pytest.mark.parametrize("saves", [True, False])
@pytest.mark.parametrize("dies_at", range(1, 7))  # 4 steps and 2 epoch ends
def test_killed_anywhere(
    encoder: Path, tmp_path: Path, unbroken: tuple[list[object], torch.Tensor], dies_at: int, saves: bool
) -> None:
    with pytest.raises(Killed):
        list(make(encoder, name="fmit", **CHANGES).epochs(Killer(tmp_path, dies_at, saves)))
    (tmp_path / ".step-9.tmp-rest").mkdir()  # what a kill in the middle of a save leaves
    again = make(encoder, seed=0, name="fmit", **CHANGES)
    checkpointer = Checkpointer(tmp_path, every_s=1e9)
    curves = [result.curve() for result in again.epochs(checkpointer)]
    assert curves == unbroken[0]
    assert torch.equal(weights(again), unbroken[1])
    assert again.position.step == 4


def test_killed_again_and_again(encoder: Path, tmp_path: Path, unbroken: tuple[list[object], torch.Tensor]) -> None:
    for _ in range(6):
        with pytest.raises(Killed):
            list(make(encoder, name="fmit", **CHANGES).epochs(Killer(tmp_path, 1, True)))
    last = make(encoder, name="fmit", **CHANGES)
    assert results_with(last, tmp_path) == unbroken[0]
    assert torch.equal(weights(last), unbroken[1])


def results_with(trainer: Trainer, folder: Path) -> list[dict[str, float | int]]:
    return [result.curve() for result in trainer.epochs(Checkpointer(folder, every_s=0))]


def test_only_the_newest_state_remains(encoder: Path, tmp_path: Path) -> None:
    trainer = make(encoder, **CHANGES)
    results_with(trainer, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"best-{trainer.position.best_epoch:04d}.safetensors", "step-00000004-0002"]


def test_tensors_go_and_come_back(encoder: Path) -> None:
    one, two = make(encoder, amp="fp16"), make(encoder, seed=5, amp="fp16")
    results(one)
    one.scaler.update(3.0)
    put_tensors(two, {name: value.clone() for name, value in tensors_of(one).items()})
    for name, value in tensors_of(one).items():
        assert torch.equal(tensors_of(two)[name], value), name
    assert two.scaler.state_dict() == one.scaler.state_dict()


def test_without_a_state_nothing_changes(encoder: Path, tmp_path: Path) -> None:
    trainer = make(encoder)
    before = weights(trainer).clone()
    Checkpointer(tmp_path / "none").restore(trainer)
    assert torch.equal(weights(trainer), before)


def test_saves_no_more_often_than_configured(encoder: Path, tmp_path: Path) -> None:
    trainer = make(encoder)
    checkpointer = Checkpointer(tmp_path, every_s=3600)
    checkpointer.offer(trainer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("state.json", b"junk"),
        ("state.json", b"\xff"),
        ("state.json", b"[]"),
        ("state.json", b'{"epoch": 0, "later": 1, "history": []}'),
        ("state.json", None),
        ("tensors.safetensors", b"junk"),
        ("tensors.safetensors", None),
        ("tensors.safetensors", save({"loss_sum": torch.zeros(())})),
    ],
)
def test_a_damaged_state_is_a_clear_error(encoder: Path, tmp_path: Path, name: str, data: bytes | None) -> None:
    with pytest.raises(Killed):
        list(make(encoder, name="fmit", **CHANGES).epochs(Killer(tmp_path, 1, True)))
    (path,) = tmp_path.glob(f"step-*/{name}")
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    what = "the checkpoint is damaged or was written by another version of fmit"
    message = rf"^{tmp_path}: {what} \(found .+\); remove this folder: training starts"
    with pytest.raises(RunError, match=message):
        next(make(encoder, name="fmit", **CHANGES).epochs(Checkpointer(tmp_path)))


def test_an_out_of_memory_error_is_not_a_damaged_state(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory left")

    with pytest.raises(Killed):
        list(make(encoder, name="fmit", **CHANGES).epochs(Killer(tmp_path, 1, True)))
    monkeypatch.setattr("model.trainer.put_tensors", full)
    with pytest.raises(torch.OutOfMemoryError):
        next(make(encoder, name="fmit", **CHANGES).epochs(Checkpointer(tmp_path)))

"""The state that an interrupted training resumes from: safetensors and JSON beside the store, published by rename.

<folder>/step-00000123-0004/{state.json, tensors.safetensors}      <folder>/best-0004.safetensors
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cache import atomic
from model.trainer import Position, Trainer
from schema.errors import RunError

SAVE_EVERY_S = 60.0  # seconds between two saves: the most work that a kill costs
SCALER = "scaler/"
DAMAGE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)  # torch: tensors of other shapes
ADAM = ("step", "exp_avg", "exp_avg_sq")


class FileCheckpointer:
    """Saves a trainer's state at most every `every_s` seconds; 0: after each step."""

    def __init__(self, folder: Path, every_s: float = SAVE_EVERY_S) -> None:
        self.folder, self.every_s = folder, every_s
        self._last_s = time.monotonic()
        self._saved_step, self._saved_best = -1, 0

    def restore(self, trainer: Trainer) -> None:
        """Load the newest state, if there is one."""
        atomic.sweep(self.folder)
        states = sorted(self.folder.glob("step-*"))
        if not states:
            return
        try:
            trainer.position = Position.from_json(json.loads((states[-1] / "state.json").read_text(encoding="utf-8")))
            put_tensors(trainer, load_file(states[-1] / "tensors.safetensors"))
            if trainer.position.best_epoch:
                trainer.best = load_file(self._best(trainer.position.best_epoch))
        except DAMAGE as error:
            if isinstance(error, RuntimeError) and type(error) is not RuntimeError:
                raise  # the device failed (out of memory, lost), not the state: it must not be removed
            reason = str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
            what = "the resume state is damaged, or was written by another version"
            todo = "remove this folder: training starts from the beginning"
            raise RunError(what, where=str(self.folder), found=reason, todo=todo) from None
        self._saved_best = trainer.position.best_epoch

    def offer(self, trainer: Trainer) -> None:
        """Save if enough time has passed."""
        if time.monotonic() - self._last_s >= self.every_s:
            self.save(trainer)
            self._last_s = time.monotonic()

    def save(self, trainer: Trainer) -> None:
        """Publish the state, then remove the previous one."""
        position = trainer.position
        if position.best_epoch != self._saved_best:
            with atomic.file(self._best(position.best_epoch)) as temporary:
                save_file(trainer.best, temporary)
            self._saved_best = position.best_epoch
        state = self.folder / f"step-{position.step:08d}-{position.epoch:04d}"
        with atomic.folder(state) as temporary:
            save_file(tensors_of(trainer), temporary / "tensors.safetensors")
            (temporary / "state.json").write_text(json.dumps(asdict(position)), encoding="utf-8")
        for old in self.folder.glob("step-*"):
            if old != state:
                shutil.rmtree(old)
        for weights in self.folder.glob("best-*"):
            if weights != self._best(position.best_epoch):
                weights.unlink()

    def _best(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch:04d}.safetensors"


def tensors_of(trainer: Trainer) -> dict[str, Tensor]:
    """All tensors that later steps depend on: weights, Adam's moments, loss sum, scaler."""
    tensors = {f"weight/{name}": value.detach() for name, value in trainer.tagger.state_dict().items()}
    for name, parameter in trainer.tagger.named_parameters():
        for part, value in trainer.optimizer.state.get(parameter, {}).items():
            tensors[f"{part}/{name}"] = value
    tensors["loss_sum"] = trainer.loss_sum
    for name, number in trainer.scaler.state_dict().items():
        tensors[SCALER + name] = torch.tensor(number, dtype=torch.float64)
    return {name: value.to("cpu").contiguous() for name, value in tensors.items()}


def put_tensors(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `tensors_of`."""
    weights = {name.removeprefix("weight/"): value for name, value in tensors.items() if name.startswith("weight/")}
    trainer.tagger.load_state_dict(weights)
    for name, parameter in trainer.tagger.named_parameters():
        if f"step/{name}" in tensors:
            trainer.optimizer.state[parameter] = {
                part: tensors[f"{part}/{name}"].to(trainer.device, copy=True) for part in ADAM
            }
    trainer.loss_sum.copy_(tensors["loss_sum"])
    scaler = trainer.scaler.state_dict()
    trainer.scaler.load_state_dict({name: type(value)(tensors[SCALER + name].item()) for name, value in scaler.items()})

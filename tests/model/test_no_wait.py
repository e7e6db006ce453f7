"""A training step on a device that is not here: nothing of it stays on the CPU, and nothing asks for a value.

A value that Python asks for (`.item()`, `if tensor:`) makes a GPU's queue run dry. Two stand-ins have no values to
give: tensors that only claim to be on a GPU go through the forward pass, as that device takes it; those of torch's
`meta` device go through the whole step, backward passes of our own included.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from model import words
from model.approaches import APPROACHES
from model.data import Batch, collate
from model.distributed import ProcessGroup
from model.trainer import Trainer
from tests.model.test_fit import make

CUDA, META = torch.device("cuda"), torch.device("meta")
RECURRENT = ("cnn-bilstm-crf", "hbilstm-crf", "vg-att", "ada-co-att")  # torch asks a real GPU's library about LSTMs
APPROACH = ("fmit", "fmit-no-rel", "fmit-no-ebd", "fmit-no-obj", "bert", "bert-crf", "umt", "umgf")


def first_batch(trainer: Trainer) -> Batch:
    return collate([trainer.train[row] for row in range(8)], trainer.tagger.featurizer)


def moved(trainer: Trainer, change: Callable[[Tensor], Tensor], device: torch.device) -> None:
    """Weights and all else that a step holds, on `device`."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        trainer.tagger._apply(change)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
    assert {value.device.type for value in trainer.tagger.state_dict().values()} == {device.type}
    trainer.device, trainer.processes = device, ProcessGroup(device)
    trainer.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    # the fused Adam has no form without values
    trainer.optimizer = torch.optim.SGD([{"params": list(trainer.tagger.parameters()), "rate": 0.1}], fused=False)


@pytest.mark.parametrize("name", APPROACH)
def test_losses_and_scores_on_a_gpu_ask_for_nothing(encoder: Path, name: str) -> None:
    trainer = make(encoder, name=name)
    mode = FakeTensorMode()
    batch = first_batch(trainer).mapped(mode.from_tensor)
    with mode:
        moved(trainer, lambda value: mode.from_tensor(value).to(CUDA), CUDA)
        tagger = trainer.tagger.train()
        on_gpu = tagger.with_features(batch.to(CUDA))
        assert tagger.losses(on_gpu).device.type == "cuda"
        with torch.no_grad():
            assert tagger.eval().emissions(on_gpu).device.type == "cuda"


@pytest.fixture
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` knows none."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)


def step(trainer: Trainer) -> None:
    batch = first_batch(trainer)
    moved(trainer, lambda value: value.to(META), META)
    trainer.tagger.train()
    trainer._step([batch], 8, 0.5)


@pytest.mark.usefixtures("no_autocast")
@pytest.mark.parametrize("name", [*APPROACH, *RECURRENT])
def test_a_whole_step_asks_for_nothing(encoder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(words, "attention_mask", functools.partial(words.attention_mask, full=True))  # as on a GPU
    trainer = make(encoder, name=name)
    step(trainer)
    assert trainer.loss_sum.device.type == "meta"


@pytest.mark.usefixtures("no_autocast")
def test_a_step_that_asks_is_caught(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = functools.partial(words.attention_mask, full=False)  # transformers asks whether anything is padding
    monkeypatch.setattr(words, "attention_mask", plain)
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
        step(make(encoder))


def test_every_approach_is_one_of_these_networks() -> None:
    data = {"fmit-l1", "fmit-l3", "fmit-l6", "fmit-l12"} | {f"fmit-{name}" for name in ("text", "phrases", "general")}
    data |= {f"fmit-{name}" for name in ("image", "shuffled", "empty")}
    assert set(APPROACHES) == {*APPROACH, *RECURRENT} | data

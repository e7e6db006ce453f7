"""The encoder compiled: eager's numbers where it works, eager itself and a warning where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.data import collate
from model.trainer import Trainer, compile_encoder
from tests.model.test_fit import make, results


def passes(trainer: Trainer) -> list[torch.Tensor]:
    """Losses of three batches of other shapes, and all gradients of their sum."""
    trainer.tagger.eval()
    found: list[torch.Tensor] = []
    for rows in (range(4), range(4, 11), range(2)):
        batch = collate([trainer.train[row] for row in rows], trainer.tagger.featurizer)
        losses = trainer.tagger.losses(batch)
        losses.sum().backward()
        found.append(losses.detach())
    return found + [parameter.grad for parameter in trainer.tagger.parameters() if parameter.grad is not None]


def probe(trainer: Trainer) -> bool:
    return compile_encoder(trainer.tagger, collate([trainer.train[0]], trainer.tagger.featurizer))


@pytest.mark.long
def test_it_computes_what_eager_does(encoder: Path) -> None:
    expected = passes(make(encoder, name="fmit"))
    trainer = make(encoder, name="fmit")
    if not probe(trainer):
        pytest.skip("nothing compiles here: no C++ compiler")
    assert all(parameter.grad is None for parameter in trainer.tagger.parameters()), "the trial leaves nothing"
    for one, other in zip(passes(trainer), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that fails as one without a compiler does, at the first call."""

    def backend(graph: object, inputs: object) -> object:
        raise RuntimeError("no working C++ compiler")

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: compile_(function, backend=backend))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_it_falls_back_and_says_so(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = results(make(encoder, epochs=1))
    no_compiler(monkeypatch)
    trainer = make(encoder, epochs=1, compile=True)
    with pytest.warns(
        UserWarning, match=r"the encoder could not be compiled and runs eagerly: .*BackendCompilerFailed"
    ):
        assert results(trainer) == expected
    assert "forward" not in vars(trainer.tagger.words.model)  # type: ignore[union-attr]

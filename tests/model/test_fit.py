"""The loop: accumulation is one large batch, seeds decide all, the best epoch is kept, patience ends it."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from model import interaction, trainer, words
from model.approaches import approach
from model.data import PostDataset, collate
from model.distributed import ProcessGroup
from model.objects import FromMemory
from model.predict import Decoded
from model.tagger import ModelSpec
from model.trainer import EpochResult, Trainer, build_optimizer
from schema.errors import RunError
from tests.model.tiny import DIM, LABELS, linked, tiny_config

CPU = torch.device("cpu")


def make(encoder: Path, seed: int = 0, name: str = "bert-crf", **changes: Any) -> Trainer:
    config = approach(name).configure(tiny_config(encoder)).model_copy(update=changes)
    torch.manual_seed(seed)
    tagger = approach(name).build(ModelSpec(config, LABELS, DIM, None, [post.words for post in linked(20, 3)[0]]))
    splits = []
    for which, n_posts in (("train", 20), ("dev", 6)):
        posts, objects = linked(n_posts, 3 if which == "train" else 4)
        splits.append(PostDataset(posts, FromMemory(objects), LABELS, tagger.featurizer, config, seed))
    return Trainer(tagger, *splits, config, seed, ProcessGroup(CPU))


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([value.flatten() for value in trainer.tagger.state_dict().values()])


def results(trainer: Trainer) -> list[dict[str, float | int]]:
    return [result.curve() for result in trainer.epochs()]


def test_a_step_is_adam_on_the_mean_loss(encoder: Path) -> None:
    trainer, twin = (make(encoder, dropout=0.0, batch=20, epochs=1, clip=0.5) for _ in range(2))
    batch = collate([twin.train[row] for row in range(20)], twin.tagger.featurizer)
    optimizer = build_optimizer(twin.tagger, twin.config)
    twin.tagger.eval()  # the encoder has dropout of its own
    trainer.tagger.eval()
    trainer._step([batch], 20, 0.5)
    loss = twin.tagger.losses(batch).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(twin.tagger.parameters(), 0.5)
    optimizer.step()
    torch.testing.assert_close(weights(trainer), weights(twin), atol=1e-6, rtol=0)
    assert float(trainer.loss_sum) == pytest.approx(20 * loss.item(), rel=1e-5)


def test_accumulated_batches_are_one_batch(encoder: Path) -> None:
    whole, parts = (make(encoder, dropout=0.0) for _ in range(2))
    for one, pieces in ((whole, [range(20)]), (parts, [range(6), range(6, 20)])):
        one.tagger.eval()
        group = [collate([one.train[row] for row in rows], one.tagger.featurizer) for rows in pieces]
        one._step(group, 20, 0.5)
    torch.testing.assert_close(weights(whole), weights(parts), atol=2e-5, rtol=0)


def test_same_seed_same_numbers(encoder: Path) -> None:
    first, second, other = (make(encoder, seed) for seed in (1, 1, 2))
    assert results(first) == results(second)
    assert torch.equal(weights(first), weights(second))
    results(other)
    assert not torch.equal(weights(first), weights(other))


def test_bf16_trains_alike(encoder: Path) -> None:
    losses = [[row["train_loss"] for row in results(make(encoder, dropout=0.0, amp=amp))] for amp in ("off", "bf16")]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_fp16_trains_once_its_scale_is_small_enough(encoder: Path) -> None:
    trainer = make(encoder, amp="fp16", epochs=6)
    losses = [row["train_loss"] for row in results(trainer)]
    assert losses[-1] < 0.5 * losses[0]
    assert trainer.scaler.get_scale() < 65536  # the first steps overflowed and were skipped


def test_progress_counts_posts(encoder: Path) -> None:
    seen: list[tuple[int, int]] = []
    list(make(encoder, batch=8).epochs(progress=lambda done, total: seen.append((done, total))))
    assert seen[-1] == (40, 40)
    assert len(seen) == 6


def scripted(monkeypatch: pytest.MonkeyPatch, correct: list[int]) -> None:
    """Let dev epochs find the first posts' entities only: `correct[k]` of them in epoch k."""
    script = iter(correct)

    def fake(tagger: Any, dataset: PostDataset, config: Any, device: Any) -> list[Decoded]:
        good = next(script)
        return [
            Decoded(tuple(post.tags or ()) if row < good else ("O",) * post.n_words, ())
            for row, post in enumerate(dataset.posts)
        ]

    monkeypatch.setattr(trainer, "decode", fake)


def test_selects_the_best_epoch_and_stops_by_patience(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [1, 3, 3, 2, 6])
    trainer = make(encoder, epochs=9, patience=2)
    found, after = [], []
    for result in trainer.epochs():
        found.append(result)
        after.append(weights(trainer).clone())
    assert [one.best for one in found] == [True, True, False, False]  # equal is no better; the fifth is never trained
    assert trainer.position.best_epoch == 2
    assert torch.equal(weights(trainer), after[1])
    assert found[1].dev_recall > found[0].dev_recall


def test_selects_the_last_epoch_while_all_score_the_same(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [2, 2, 2, 2])
    trainer = make(encoder, epochs=4, patience=2)
    after = []
    for _ in trainer.epochs():
        after.append(weights(trainer).clone())
    assert trainer.position.best_epoch == len(after) == 3  # patience counts from the first epoch of that score
    assert torch.equal(weights(trainer), after[-1])
    assert re.fullmatch(r"all 3 epochs have the dev F1 0\.\d{4}: the last one is kept", trainer.selection)
    scripted(monkeypatch, [0, 0, 1, 0])
    trainer = make(encoder, epochs=4)
    list(trainer.epochs())
    assert (trainer.position.best_epoch, trainer.selection) == (3, "")


def test_stops_at_a_loss_that_is_not_finite(encoder: Path) -> None:
    trainer = make(encoder)
    with torch.no_grad():
        next(trainer.tagger.parameters()).fill_(torch.nan)
    with pytest.raises(
        RunError, match="epoch 1: training diverged: the loss is not a finite number; lower the learning rates"
    ):
        list(trainer.epochs())


def test_curves_have_what_a_repeated_run_gives_again() -> None:
    result = EpochResult(1, 3, 0.5, 0.1, 0.2, 0.3, True, 7.0)
    assert result.curve() == {
        "epoch": 1,
        "step": 3,
        "train_loss": 0.5,
        "dev_precision": 0.1,
        "dev_recall": 0.2,
        "dev_f1": 0.3,
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_step_never_waits_for_the_gpu(encoder: Path, amp: str) -> None:
    trainer = make(encoder, name="fmit", amp=amp)
    trainer = Trainer(trainer.tagger, trainer.train, trainer.dev, trainer.config, 0, ProcessGroup(torch.device("cuda")))
    batch = collate([trainer.train[row] for row in range(8)], trainer.tagger.featurizer).pin_memory()
    trainer.tagger.train()
    for _ in range(2):
        trainer._step([batch], 8, 0.5)  # warms up: allocations and libraries may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer._step([batch], 8, 0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")


WAITS = {"_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "unique", "_unique2", "equal"}


class NoWaiting(torch.utils._python_dispatch.TorchDispatchMode):
    """Refuses what makes a GPU's queue run dry: values that steer the code, and shapes that depend on values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        assert name not in WAITS, name
        assert not mask, f"{name} by a mask"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["fmit", "fmit-no-rel", "bert-crf"])
def test_a_step_reads_no_values(encoder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """On the CPU, with the looks that only a CPU takes turned off; the optimiser's fused step is checked on a GPU."""
    trainer = make(encoder, name=name)
    batch = collate([trainer.train[row] for row in range(8)], trainer.tagger.featurizer)
    monkeypatch.setattr(interaction, "may_read_values", lambda x: False)
    monkeypatch.setattr(words, "attention_mask", partial(words.attention_mask, full=True))
    trainer.tagger.train()
    with NoWaiting():
        losses = trainer.tagger.losses(trainer.tagger.with_features(batch))
        losses.sum().backward()
        torch.nn.utils.clip_grad_norm_(trainer.tagger.parameters(), 1.0)

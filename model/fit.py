"""The training loop, one for CPU and GPU: yields an EpochResult an epoch; the caller prints, saves and logs.

Every random number of a step is drawn from (seed, step) alone, and the order of posts from (seed, epoch), so a run that
goes on from any saved step ends with the weights of one that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from model.batch import Batch
from model.config import TrainConfig
from model.data import LengthBatches, PostDataset, loader
from model.decode import Progress, autocast, decode
from model.metrics import score
from model.optimize import build_optimizer, determinism, rate_share
from model.tagger import Tagger
from schema.errors import RunError

SEED_STRIDE = 1_000_003  # a prime beyond any step count, so that no two (seed, step) pairs share random numbers


@dataclass(frozen=True)
class EpochResult:
    """What an epoch (from 1) brought; dev scores are strict and micro-averaged; `posts_per_s` is this machine's."""

    epoch: int
    step: int
    train_loss: float  # Eq. 15, mean over posts
    dev_precision: float
    dev_recall: float
    dev_f1: float
    best: bool
    posts_per_s: float

    def curve(self) -> dict[str, float | int]:
        """A row of curves.json: what the same run brings again."""
        return {name: value for name, value in asdict(self).items() if name not in ("best", "posts_per_s")}


@dataclass(frozen=True)
class Position:
    """How far training is: full epochs, batches and posts of the one under way, steps in all, epochs so far."""

    epoch: int = 0
    n_batches: int = 0
    n_posts: int = 0
    step: int = 0
    best_epoch: int = 0
    history: tuple[EpochResult, ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Position:
        """The value whose `asdict` this is."""
        return cls(**{**values, "history": tuple(EpochResult(**row) for row in values["history"])})


class Keeper(Protocol):
    """Saves a trainer's state now and then, and brings the last one back; `model.resume` has the one with files."""

    def restore(self, trainer: Trainer) -> None:
        """Called once, before the first step."""

    def offer(self, trainer: Trainer) -> None:
        """Called after each step and each epoch."""


class Trainer:
    """A tagger, its data and its optimiser; when `epochs` ends, the tagger holds the best epoch's weights."""

    def __init__(
        self,
        tagger: Tagger,
        train: PostDataset,
        dev: PostDataset,
        config: TrainConfig,
        seed: int,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self.tagger: Tagger = tagger.to(device)
        self.train, self.dev, self.config = train, dev, config
        self.seed, self.device, self.workers = seed, device, workers
        self.optimizer = build_optimizer(tagger, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.amp == "fp16")
        self.position = Position()
        self.best: dict[str, Tensor] = {}
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)

    def epochs(self, keeper: Keeper | None = None, progress: Progress | None = None) -> Iterator[EpochResult]:
        """Train to the last epoch, or until `patience` epochs brought no better dev F1. Restored epochs come again."""
        if keeper:
            keeper.restore(self)
        yield from self.position.history
        batches = LengthBatches(self.train.n_cells(), self.config.batch, self.config.max_cells, self.seed)
        source = loader(self.train, batches, self.tagger.featurizer, self.device, self.workers)
        with determinism(self.config.deterministic):
            while not self.finished:
                batches.epoch, batches.skip = self.position.epoch, self.position.n_batches
                yield self._epoch(source, keeper, progress)
                if keeper:
                    keeper.offer(self)
        self.tagger.load_state_dict(self.best)

    @property
    def finished(self) -> bool:
        """Whether no epoch is left to train."""
        done, best = self.position.epoch, self.position.best_epoch
        return done >= self.config.epochs or (done > 0 and done - best >= self.config.patience)

    def _epoch(self, source: Iterable[Batch], keeper: Keeper | None, progress: Progress | None) -> EpochResult:
        self.tagger.train()
        started, before = time.perf_counter(), self.position.n_posts
        total = self.config.epochs * len(self.train)
        for group in grouped(source, self.config.accumulate):
            n_posts = sum(len(batch) for batch in group)
            seen = self.position.epoch * len(self.train) + self.position.n_posts + n_posts
            self._step(group, n_posts, seen / total)
            self.position = replace(
                self.position,
                n_batches=self.position.n_batches + len(group),
                n_posts=self.position.n_posts + n_posts,
                step=self.position.step + 1,
            )
            if progress:
                progress(seen, total)
            if keeper:
                keeper.offer(self)
        loss = self.loss_sum.item() / len(self.train)  # the epoch's only wait for the device
        speed = (self.position.n_posts - before) / max(time.perf_counter() - started, 1e-9)
        return self._close(loss, speed)

    def _step(self, group: Sequence[Batch], n_posts: int, done: float) -> None:
        """One optimiser step on the mean loss of the group's posts; `done` is the share of training after it."""
        torch.manual_seed(self.seed * SEED_STRIDE + self.position.step)
        for settings in self.optimizer.param_groups:
            settings["lr"] = settings["rate"] * rate_share(self.config, done)
        for batch in group:
            with autocast(self.device, self.config.amp):
                losses = self.tagger.losses(batch.to(self.device))
            self.scaler.scale(losses.sum() / n_posts).backward()
            self.loss_sum += losses.detach().sum()
        if self.config.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.tagger.parameters(), self.config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _close(self, loss: float, speed: float) -> EpochResult:
        """Score dev, keep the weights if they are the best so far, and move on to the next epoch."""
        epoch = self.position.epoch + 1
        if not math.isfinite(loss):
            raise RunError("training diverged: the loss is no number", where=f"epoch {epoch}", todo="lower the rates")
        decoded = decode(self.tagger, self.dev, self.config, self.device)
        gold = [post.tags or () for post in self.dev.posts]
        micro = score(gold, [one.tags for one in decoded], self.dev.labels.types).micro
        best = micro.f1 > max((past.dev_f1 for past in self.position.history), default=-1.0)
        if best:
            self.best = {name: value.detach().to("cpu", copy=True) for name, value in self.tagger.state_dict().items()}
        result = EpochResult(epoch, self.position.step, loss, micro.precision, micro.recall, micro.f1, best, speed)
        self.loss_sum.zero_()
        self.position = Position(
            epoch=epoch,
            step=self.position.step,
            best_epoch=epoch if best else self.position.best_epoch,
            history=(*self.position.history, result),
        )
        return result


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of `size` batches in their order; the last may be shorter."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group

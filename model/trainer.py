"""The training loop, for CPU and GPU: it yields an EpochResult per epoch, and the caller prints, saves and logs.

Every random number of a step is drawn from (seed, step), and the order of posts from (seed, epoch), so a run that is
resumed from any saved step ends with the weights of an uninterrupted one. Several processes each take a share of every
batch and sum gradients and losses; only the first one saves and scores.

`train.compile` is off by default. On a CPU it is slower: forward and backward of MiniLM over 16 posts of 16 words took
250 ms of processor time compiled and 186 ms eager (22 words: 331 and 244; one thread), because eager code has the
faster matrix library (`kernels`), and compiling took 26 s. On a GPU it was not measured. Only the pretrained encoder,
most of a step's operations, is compiled; the interaction has its own backward pass and the CRF a loop, which a compiler
would unroll. Batches differ in length, so shapes are dynamic, and no CUDA graph is captured.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from model.config import TrainConfig
from model.crf import CRF
from model.data import Batch, LengthBatches, PostDataset, collate, loader, seed_of
from model.distributed import ProcessGroup
from model.metrics import score
from model.predict import Progress, autocast, decode
from model.tagger import EncoderTagger, Tagger
from schema.checks import splits_without_entities
from schema.errors import RunError
from schema.scores import Counts

T = TypeVar("T")
RANK_STRIDE = 2**40  # beyond any step count: each process of a group draws its own dropout


def build_optimizer(tagger: Tagger, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam with decoupled decay: `lr_encoder` for pretrained parameters, `lr_crf` for CRFs, `vision.lr` for the crop
    network, `lr_head` for the rest.

    A group's "rate" is its full rate. The fused form updates all parameters in one pass and never waits for a GPU.
    """
    rates = {id(parameter): config.lr_encoder for parameter in tagger.pretrained()}
    crfs = [module for module in tagger.modules() if isinstance(module, CRF)]
    rates.update({id(parameter): config.lr_crf for crf in crfs for parameter in crf.parameters()})
    if tagger.crop_net is not None:
        rates.update({id(parameter): config.vision.lr for parameter in tagger.crop_net.parameters()})
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for parameter in tagger.parameters():
        rate = rates.get(id(parameter), config.lr_head)
        decay = config.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    settings: list[dict[str, Any]] = [
        {"params": parameters, "lr": rate, "rate": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    return torch.optim.AdamW(settings, fused=True)


def lr_multiplier(config: TrainConfig, done: float) -> float:
    """The factor on learning rates after a share `done` (0..1) of the training: linear warm-up, then the schedule."""
    if done < config.warmup:
        return done / config.warmup
    left = (1 - done) / (1 - config.warmup) if config.warmup < 1 else 0.0
    if config.schedule == "linear":
        return left
    return 0.5 - 0.5 * math.cos(math.pi * left) if config.schedule == "cosine" else 1.0


@contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """In this context operations that may differ between two runs on a GPU raise; CPU runs repeat anyway."""
    if not enabled:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def compile_encoder(tagger: Tagger, batch: Batch) -> bool:
    """Compile the encoder's forward and backward pass and try it on `batch`.

    If that fails (no C++ compiler, an encoder that cannot be traced), the encoder stays eager: a warning, and False.
    """
    if not isinstance(tagger, EncoderTagger):
        warnings.warn("train.compile: this approach has no pretrained encoder; it runs eagerly", stacklevel=2)
        return False
    encoder = tagger.words.model
    encoder.forward = torch.compile(encoder.forward, dynamic=True)  # type: ignore[method-assign]
    try:
        tagger.words(batch.inputs, len(batch)).sum().backward()
    except (TorchDynamoException, RuntimeError) as error:  # the backward pass is compiled when it first runs
        del encoder.forward
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        warnings.warn(f"train.compile: the encoder runs eagerly, it could not be compiled: {reason}", stacklevel=2)
        return False
    finally:
        tagger.zero_grad(set_to_none=True)
    return True


@dataclass(frozen=True)
class EpochResult:
    """The results of an epoch (from 1); dev scores are strict micro averages; `posts_per_s` depends on the machine."""

    epoch: int
    step: int
    train_loss: float  # Eq. 15, mean over posts
    dev_precision: float
    dev_recall: float
    dev_f1: float
    best: bool
    posts_per_s: float

    def curve(self) -> dict[str, float | int]:
        """A row of curves.json: the values that a repeated run gives again."""
        return {name: value for name, value in asdict(self).items() if name not in ("best", "posts_per_s")}


@dataclass(frozen=True)
class Position:
    """Progress of a training: complete epochs, batches and posts of the current epoch, all steps, results so far."""

    epoch: int = 0
    n_batches: int = 0
    n_posts: int = 0
    step: int = 0
    best_epoch: int = 0
    history: tuple[EpochResult, ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Position:
        """The inverse of `asdict`."""
        return cls(**{**values, "history": tuple(EpochResult(**row) for row in values["history"])})


class Checkpointer(Protocol):
    """Saves a trainer's state regularly and restores the last one; `model.resume` has the implementation with files."""

    def restore(self, trainer: Trainer) -> None:
        """Called once, before the first step."""

    def offer(self, trainer: Trainer) -> None:
        """Called after each step and each epoch."""


class Trainer:
    """A tagger, its data and its optimiser; when `epochs` is exhausted, the tagger holds the selected epoch's weights.

    `processes`: the group that trains it together; None: this process only, on `device`.
    """

    def __init__(
        self,
        tagger: Tagger,
        train: PostDataset,
        dev: PostDataset,
        config: TrainConfig,
        seed: int,
        device: torch.device,
        workers: int = 0,
        processes: ProcessGroup | None = None,
    ) -> None:
        self.processes = processes or ProcessGroup(device)
        self.tagger: Tagger = tagger.to(device)
        self.train, self.dev, self.config = train, dev, config
        self.dev_has_entities = not splits_without_entities(dev.posts)
        self.seed, self.device, self.workers = seed, device, workers
        self.optimizer = build_optimizer(tagger, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.amp == "fp16")
        self.scaler.scale(torch.zeros((), device=device))  # creates its tensor even if the first step has no post
        self.position = Position()
        self.best: dict[str, Tensor] = {}
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)

    def epochs(
        self, checkpointer: Checkpointer | None = None, progress: Progress | None = None
    ) -> Iterator[EpochResult]:
        """Train to the last epoch, or until `patience` epochs gave no better dev F1; yields restored epochs again."""
        self._restore(checkpointer)
        if not self.position.step:
            self.tagger.prepare(self.train.features())
        yield from self.position.history
        batches = LengthBatches(
            self.train.n_cells(), self.config.batch, self.config.max_cells, self.seed, self.processes
        )
        source = loader(self.train, batches, self.tagger.featurizer, self.device, self.workers)
        with deterministic_algorithms(self.config.deterministic):
            if self.config.compile and not self.finished:
                with autocast(self.device, self.config.amp):
                    compile_encoder(self.tagger, collate([self.train[0]], self.tagger.featurizer).to(self.device))
            while not self.finished:
                batches.epoch, batches.skip = self.position.epoch, self.position.n_batches
                yield self._epoch(batches, iter(source), checkpointer, progress)
                self._offer(checkpointer)
        self.tagger.load_state_dict(self.best)

    @property
    def finished(self) -> bool:
        """Whether training is complete."""
        history = self.position.history
        if len(history) >= self.config.epochs or not history or not self.dev_has_entities:
            return len(history) >= self.config.epochs
        best = max(result.dev_f1 for result in history)
        first_best = next(result.epoch for result in history if result.dev_f1 == best)
        return self.position.epoch - first_best >= self.config.patience

    @property
    def selection(self) -> str:
        """Why the last epoch is published instead of the best one on dev; "" where dev decided."""
        history = self.position.history
        if not self.dev_has_entities:
            return f"dev has no entity, so its scores decide nothing: the last epoch ({len(history)}) is kept"
        if len(history) > 1 and len({result.dev_f1 for result in history}) == 1:
            return f"all {len(history)} epochs have the dev F1 {history[0].dev_f1:.4f}: the last one is kept"
        return ""

    def _restore(self, checkpointer: Checkpointer | None) -> None:
        if checkpointer:
            checkpointer.restore(self)
        position = self.position.epoch, self.position.step
        if self.processes.from_first(lambda: position) != position:
            todo = "let all processes see the same project folder, .fmit included"
            raise RunError("processes resume from different states", where=f"process {self.processes.rank}", todo=todo)

    def _offer(self, checkpointer: Checkpointer | None) -> None:
        if checkpointer and self.processes.first:
            checkpointer.offer(self)

    def _epoch(
        self,
        batches: LengthBatches,
        mine: Iterator[Batch],
        checkpointer: Checkpointer | None,
        progress: Progress | None,
    ) -> EpochResult:
        """`batches` are all rows of the epoch, `mine` the non-empty shares of this process."""
        self.tagger.train()
        started, before = time.perf_counter(), self.position.n_posts
        total = self.config.epochs * len(self.train)
        for group in grouped(batches.left(), self.config.accumulate):
            n_posts = sum(len(rows) for rows in group)
            seen = self.position.epoch * len(self.train) + self.position.n_posts + n_posts
            self._step([next(mine) for rows in group if self.processes.share(rows)], n_posts, seen / total)
            self.position = replace(
                self.position,
                n_batches=self.position.n_batches + len(group),
                n_posts=self.position.n_posts + n_posts,
                step=self.position.step + 1,
            )
            if progress:
                progress(seen, total)
            self._offer(checkpointer)
        loss = self.loss_sum.item() / len(self.train)  # the only time in the epoch that waits for the device
        speed = (self.position.n_posts - before) / max(time.perf_counter() - started, 1e-9)
        return self._close(loss, speed)

    def _step(self, group: Sequence[Batch], n_posts: int, done: float) -> None:
        """One optimiser step on the mean loss of `n_posts` posts; `group` holds those of this process.

        `done`: the share of the whole training that is complete after this step.
        """
        torch.manual_seed(seed_of(self.seed, self.position.step + self.processes.rank * RANK_STRIDE))
        for settings in self.optimizer.param_groups:
            settings["lr"] = settings["rate"] * lr_multiplier(self.config, done)
        total = torch.zeros_like(self.loss_sum)
        for batch in group:
            with autocast(self.device, self.config.amp):
                losses = self.tagger.losses(self.tagger.with_features(batch.to(self.device)))
            self.scaler.scale(losses.sum() / n_posts).backward()
            total += losses.detach().sum()
        self.processes.sum(total)
        self.processes.sum_gradients(self.tagger.parameters())
        self.loss_sum += total
        if self.config.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.tagger.parameters(), self.config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _close(self, loss: float, speed: float) -> EpochResult:
        """Score dev, keep the weights if they are the best so far, and advance to the next epoch."""
        epoch = self.position.epoch + 1
        if not math.isfinite(loss):
            raise RunError(
                "training diverged: the loss is not a finite number",
                where=f"epoch {epoch}",
                todo="lower the learning rates",
            )
        micro = self.processes.from_first(self._dev_score)
        past = {result.dev_f1 for result in self.position.history}
        best = micro.f1 > max(past, default=-1.0) or past == {micro.f1}  # while all are equal, the last one is kept
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

    def _dev_score(self) -> Counts:
        decoded = decode(self.tagger, self.dev, self.config, self.device)
        gold = [post.tags or () for post in self.dev.posts]
        return score(gold, [one.tags for one in decoded], self.dev.labels.types).micro


def grouped(batches: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` batches in their order; the last may be shorter."""
    remaining = iter(batches)
    while group := list(islice(remaining, size)):
        yield group

"""The training loop, for CPU and GPU: it yields an EpochResult per epoch, and the caller prints, saves and logs.

Every random number of a step is drawn from (seed, step), and the order of posts from (seed, epoch), so a run that is
resumed from any saved step ends with the weights of an uninterrupted one. Several processes each take a share of every
batch and sum gradients and losses; only the first one saves and scores.
"""

import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cache import atomic
from model.config import TrainConfig
from model.crf import CRF
from model.data import Batch, LengthBatches, PostDataset, collate, loader, seed_of
from model.distributed import ProcessGroup
from model.evaluate import score
from model.predict import Progress, autocast, decode
from model.tagger import EncoderTagger, Tagger
from schema.checks import splits_without_entities
from schema.errors import RunError
from schema.scores import Counts
from vision.backbones import CropNet

SAVE_EVERY_S = 60.0  # seconds between two saves: the most work that a kill costs
SCALER = "scaler/"
DAMAGE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)  # torch: tensors of other shapes
ADAM = ("step", "exp_avg", "exp_avg_sq")
GPU_WORKERS = 2  # processes that prefetch from the pack for a GPU
RANK_STRIDE = 2**40  # beyond any step count: each process of a group draws its own dropout


def build_optimizer(tagger: Tagger, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam with decoupled decay; a group's "rate" is its part's learning rate. The fused form never waits for a GPU."""
    rates = {id(parameter): config.lr_encoder for parameter in tagger.pretrained()}
    for module in tagger.modules():
        if isinstance(module, CRF | CropNet):
            rate = config.lr_crf if isinstance(module, CRF) else config.vision.lr
            rates.update({id(parameter): rate for parameter in module.parameters()})
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for parameter in tagger.parameters():
        rate = rates.get(id(parameter), config.lr_head)
        decay = config.weight_decay if parameter.dim() > 1 else 0.0
        group = {"params": [], "lr": rate, "rate": rate, "weight_decay": decay}
        groups.setdefault((rate, decay), group)["params"].append(parameter)
    return torch.optim.AdamW(list(groups.values()), fused=True)


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
    """If enabled, operations that may differ between two runs on a GPU raise; CPU runs repeat anyway."""
    before = torch.are_deterministic_algorithms_enabled()
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def compile_encoder(tagger: Tagger, batch: Batch) -> bool:
    """Compile the encoder and try it on `batch`; if that fails, e.g. without a C++ compiler: a warning, and False.

    The interaction has its own backward pass and the CRF a loop, which a compiler would unroll.
    """
    if not isinstance(tagger, EncoderTagger):
        warnings.warn("train.compile: this approach has no pretrained encoder; it runs eagerly", stacklevel=2)
        return False
    encoder = tagger.words.model
    encoder.forward = torch.compile(encoder.forward, dynamic=True)  # type: ignore[method-assign]
    try:
        tagger.words(batch.inputs, len(batch)).sum().backward()
    except RuntimeError as error:  # the backward pass is compiled when it first runs
        del encoder.forward
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        warnings.warn(f"train.compile: the encoder could not be compiled and runs eagerly: {reason}", stacklevel=2)
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
    """Complete epochs, batches and posts of the current epoch, all steps, results so far."""

    epoch: int = 0
    n_batches: int = 0
    n_posts: int = 0
    step: int = 0
    best_epoch: int = 0
    history: tuple[EpochResult, ...] = ()


class Trainer:
    """A tagger, its data and its optimizer; once `epochs` is exhausted, the tagger has the selected epoch's weights."""

    def __init__(
        self, tagger: Tagger, train: PostDataset, dev: PostDataset, config: TrainConfig, seed: int, group: ProcessGroup
    ) -> None:
        self.train, self.dev, self.config, self.seed = train, dev, config, seed
        self.processes, self.device = group, group.device
        self.tagger: Tagger = tagger.to(self.device)
        self.dev_has_entities = not splits_without_entities(dev.posts)
        self.optimizer = build_optimizer(tagger, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self.scaler.scale(torch.zeros((), device=self.device))  # creates its tensor even if the first step has no post
        self.position = Position()
        self.best: dict[str, Tensor] = {}
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)

    def epochs(
        self, checkpointer: "Checkpointer | None" = None, progress: Progress | None = None
    ) -> Iterator[EpochResult]:
        """Train to the last epoch, or until `patience` epochs gave no better dev F1; yields restored epochs again."""
        if checkpointer:
            checkpointer.restore(self)
        position = self.position.epoch, self.position.step
        if self.processes.from_first(lambda: position) != position:
            todo = "let all processes see the same project folder, .fmit included"
            raise RunError("processes resume from different states", where=f"process {self.processes.rank}", todo=todo)
        saver = checkpointer if self.processes.first else None
        config, featurizer = self.config, self.tagger.featurizer
        if not self.position.step:
            self.tagger.prepare(self.train.features(row) for row in range(len(self.train)))
        yield from self.position.history
        batches = LengthBatches(self.train.n_cells(), config.batch, config.max_cells, self.seed, self.processes)
        workers = GPU_WORKERS if self.device.type == "cuda" else 0
        source = loader(self.train, batches, featurizer, self.device, workers)
        with deterministic_algorithms(config.deterministic):
            if config.compile and not self.finished:
                with autocast(self.device, config.amp):
                    compile_encoder(self.tagger, collate([self.train[0]], featurizer).to(self.device))
            while not self.finished:
                batches.epoch, batches.skip = self.position.epoch, self.position.n_batches
                yield self._epoch(batches, iter(source), saver, progress)
                if saver:
                    saver.offer(self)
        self.tagger.load_state_dict(self.best)

    @property
    def finished(self) -> bool:
        history = self.position.history
        if len(history) >= self.config.epochs or not history or not self.dev_has_entities:
            return len(history) >= self.config.epochs
        best = max(history, key=lambda result: result.dev_f1)  # the first of equal ones
        return self.position.epoch - best.epoch >= self.config.patience

    @property
    def selection(self) -> str:
        """Why the last epoch is published instead of the best one on dev; "" where dev decided."""
        history = self.position.history
        if not self.dev_has_entities:
            return f"dev has no entity, so no epoch can be selected: the last epoch ({len(history)}) is kept"
        if len(history) > 1 and len({result.dev_f1 for result in history}) == 1:
            return f"all {len(history)} epochs have the dev F1 {history[0].dev_f1:.4f}: the last one is kept"
        return ""

    def _epoch(
        self, batches: LengthBatches, own: Iterator[Batch], saver: "Checkpointer | None", progress: Progress | None
    ) -> EpochResult:
        """`batches` are all rows of the epoch, `own` the non-empty shares of this process."""
        self.tagger.train()
        started, before = time.perf_counter(), self.position.n_posts
        total, left = self.config.epochs * len(self.train), batches.batches()
        for start in range(0, len(left), self.config.accumulate):
            group = left[start : start + self.config.accumulate]
            n_posts = self.position.n_posts + sum(len(rows) for rows in group)
            done = self.position.epoch * len(self.train) + n_posts
            mine = [next(own) for rows in group if self.processes.share(rows)]
            self._step(mine, n_posts - self.position.n_posts, done / total)
            n_batches, step = self.position.n_batches + len(group), self.position.step + 1
            self.position = replace(self.position, n_batches=n_batches, n_posts=n_posts, step=step)
            if progress:
                progress(done, total)
            if saver:
                saver.offer(self)
        loss = self.loss_sum.item() / len(self.train)  # the only time in the epoch that waits for the device
        return self._close(loss, (self.position.n_posts - before) / max(time.perf_counter() - started, 1e-9))

    def _step(self, group: Sequence[Batch], n_posts: int, done: float) -> None:
        """One step on the mean loss of `n_posts` posts; `group`: this process's; `done`: as in `lr_multiplier`."""
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
        """Score dev, save the weights if they are the best so far, and advance to the next epoch."""
        epoch, step, history = self.position.epoch + 1, self.position.step, self.position.history
        if not math.isfinite(loss):
            what = "training diverged: the loss is not a finite number"
            raise RunError(what, where=f"epoch {epoch}", todo="lower the learning rates")
        micro = self.processes.from_first(self._dev_score)
        past = {result.dev_f1 for result in history}
        best = micro.f1 > max(past, default=-1.0) or past == {micro.f1}  # while all are equal, the last one is selected
        if best:
            self.best = {name: value.detach().to("cpu", copy=True) for name, value in self.tagger.state_dict().items()}
        result = EpochResult(epoch, step, loss, micro.precision, micro.recall, micro.f1, best, speed)
        self.loss_sum.zero_()
        best_epoch = epoch if best else self.position.best_epoch
        self.position = Position(epoch, step=step, best_epoch=best_epoch, history=(*history, result))
        return result

    def _dev_score(self) -> Counts:
        decoded = decode(self.tagger, self.dev, self.config, self.device)
        gold = [post.tags or () for post in self.dev.posts]
        return score(gold, [post.tags for post in decoded], self.dev.labels.types).micro


class Checkpointer:
    """Saves a trainer's state at most every `every_s` seconds (0: after each step), published by rename.

    <folder>/step-00000123-0004/{state.json, tensors.safetensors}      <folder>/best-0004.safetensors
    """

    def __init__(self, folder: Path, every_s: float = SAVE_EVERY_S) -> None:
        self.folder, self.every_s = folder, every_s
        self._last_s, self._saved_best = time.monotonic(), 0

    def restore(self, trainer: Trainer) -> None:
        """Load the newest state, if there is one."""
        atomic.sweep(self.folder)
        states = sorted(self.folder.glob("step-*"))
        if not states:
            return
        try:
            position = json.loads((states[-1] / "state.json").read_text(encoding="utf-8"))
            position["history"] = tuple(EpochResult(**row) for row in position["history"])
            trainer.position = Position(**position)
            put_tensors(trainer, load_file(states[-1] / "tensors.safetensors"))
            if trainer.position.best_epoch:
                trainer.best = load_file(self._best(trainer.position.best_epoch))
        except DAMAGE as error:
            if isinstance(error, RuntimeError) and type(error) is not RuntimeError:
                raise  # the device failed (out of memory, lost), not the state: it must not be removed
            found = str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
            what = "the checkpoint is damaged or was written by another version of fmit"
            todo = "remove this folder: training starts from the beginning"
            raise RunError(what, where=str(self.folder), found=found, todo=todo) from None
        self._saved_best = trainer.position.best_epoch

    def offer(self, trainer: Trainer) -> None:
        """If enough time has passed, publish the state, then remove the previous one."""
        if time.monotonic() - self._last_s < self.every_s:
            return
        position = trainer.position
        if position.best_epoch != self._saved_best:
            with atomic.file(self._best(position.best_epoch)) as temporary:
                save_file(trainer.best, temporary)
            self._saved_best = position.best_epoch
        state = self.folder / f"step-{position.step:08d}-{position.epoch:04d}"
        with atomic.folder(state) as temporary:
            save_file(tensors_of(trainer), temporary / "tensors.safetensors")
            (temporary / "state.json").write_text(json.dumps(asdict(position)), encoding="utf-8")
        for old in {*self.folder.glob("step-*")} - {state}:
            shutil.rmtree(old)
        for old in {*self.folder.glob("best-*")} - {self._best(position.best_epoch)}:
            old.unlink()
        self._last_s = time.monotonic()

    def _best(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch:04d}.safetensors"


def tensors_of(trainer: Trainer) -> dict[str, Tensor]:
    """All tensors that later steps depend on: weights, Adam's moments, loss sum, scaler."""
    tensors = {f"weight/{name}": value.detach() for name, value in trainer.tagger.state_dict().items()}
    for name, parameter in trainer.tagger.named_parameters():
        for part, value in trainer.optimizer.state.get(parameter, {}).items():
            tensors[f"{part}/{name}"] = value
    scaler = trainer.scaler.state_dict()
    tensors |= {SCALER + name: torch.tensor(number, dtype=torch.float64) for name, number in scaler.items()}
    tensors["loss_sum"] = trainer.loss_sum
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

"""Optimiser, learning-rate schedule and the deterministic mode."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from model.config import TrainConfig
from model.crf import CRF
from model.tagger import Tagger


def build_optimizer(tagger: Tagger, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam with decoupled decay: `lr_encoder` for pretrained parameters, `lr_crf` for CRFs, `vision.lr` for the
    network over crops, `lr_head` for the rest.

    Each group's "rate" is its full rate; the fused form updates all parameters in one pass and never waits for a GPU.
    """
    rates = {id(parameter): config.lr_encoder for parameter in tagger.pretrained()}
    crfs = [module for module in tagger.modules() if isinstance(module, CRF)]
    rates.update({id(parameter): config.lr_crf for crf in crfs for parameter in crf.parameters()})
    if tagger.pictures is not None:
        rates.update({id(parameter): config.vision.lr for parameter in tagger.pictures.parameters()})
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


def rate_share(config: TrainConfig, done: float) -> float:
    """The share of the full rate after `done` (0..1) of the planned training: linear warm-up, then the schedule."""
    if done < config.warmup:
        return done / config.warmup
    left = (1 - done) / (1 - config.warmup) if config.warmup < 1 else 0.0
    if config.schedule == "linear":
        return left
    return 0.5 - 0.5 * math.cos(math.pi * left) if config.schedule == "cosine" else 1.0


@contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """While it lasts, operations that may differ between two runs on a GPU raise; CPU runs repeat anyway."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)

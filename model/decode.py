"""Batched decoding: tags by constrained Viterbi, and how sure the CRF is of each entity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.batch import Batch
from model.config import TrainConfig
from model.crf import Transitions
from model.data import LengthBatches, PostDataset, loader
from model.tagger import Tagger
from schema.labels import entities
from schema.records import Entity

Progress = Callable[[int, int], None]
AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Decoded:
    """A post's tags, one a word, its entities, and P(exactly these words are this entity | S, O) of each, if asked."""

    tags: tuple[str, ...]
    entities: tuple[Entity, ...]
    confidences: tuple[float, ...] = ()


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """The context of forward passes: `amp` is off, bf16 or fp16."""
    return torch.autocast(device.type, AMP_DTYPES.get(amp), enabled=amp != "off")


def decode(
    tagger: Tagger,
    dataset: PostDataset,
    config: TrainConfig,
    device: torch.device,
    *,
    confident: bool = False,
    progress: Progress | None = None,
) -> list[Decoded]:
    """Every post of the dataset, in its order. IOB2 constrains the paths; words without a vector get `O`."""
    was_training, found, done = tagger.training, {}, 0
    tagger.eval()
    batches = LengthBatches(dataset.n_cells(), config.batch, config.max_cells)
    allowed = Transitions.iob2(dataset.labels.tags).to(device)
    with torch.no_grad(), autocast(device, config.amp):
        for cpu_batch in loader(dataset, batches, tagger.featurizer, device, workers=0):
            batch = tagger.with_features(cpu_batch.to(device))
            emissions = tagger.emissions(batch)
            paths = tagger.crf.decode(emissions, batch.word_mask, allowed)
            for row, one in zip(batch.rows, _decoded(tagger, dataset, batch, emissions, paths, confident), strict=True):
                found[row] = one
            done += len(batch)
            if progress:
                progress(done, len(dataset))
    tagger.train(was_training)
    return [found[row] for row in range(len(dataset))]


def _decoded(
    tagger: Tagger, dataset: PostDataset, batch: Batch, emissions: Tensor, paths: list[list[int]], confident: bool
) -> list[Decoded]:
    names = dataset.labels.tags
    tags = [tuple(names[index] for index in path) for path in paths]
    found = [tuple(entities(one)) for one in tags]
    sure = _confidences(tagger, dataset, batch, emissions, found) if confident else [()] * len(tags)
    lengths = [dataset.posts[row].n_words for row in batch.rows]
    return [
        Decoded(one + ("O",) * (n_words - len(one)), entity, confidence)
        for one, n_words, entity, confidence in zip(tags, lengths, found, sure, strict=True)
    ]


def _confidences(
    tagger: Tagger, dataset: PostDataset, batch: Batch, emissions: Tensor, found: list[tuple[Entity, ...]]
) -> list[tuple[float, ...]]:
    flat = [(post, entity) for post, one in enumerate(found) for entity in one]
    if not flat:
        return [()] * len(found)
    ids = dataset.labels.tag_ids
    device = emissions.device
    posts = torch.tensor([post for post, _ in flat], device=device)
    spans = torch.tensor([(entity.span.start, entity.span.end) for _, entity in flat], device=device)
    begin = torch.tensor([ids[f"B-{entity.type}"] for _, entity in flat], device=device)
    inside = torch.tensor([ids[f"I-{entity.type}"] for _, entity in flat], device=device)
    log_probs = tagger.crf.span_log_prob(emissions, batch.word_mask, posts, spans, begin, inside)
    probs = iter(log_probs.exp().clamp(max=1.0).tolist())
    return [tuple(next(probs) for _ in one) for one in found]

"""Prediction with a trained run: posts and their objects in, entities with confidence and grounded boxes out.

Tags come from constrained Viterbi decoding in batches, confidences from the CRF's marginals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from cache.packs import Objects, Pack
from model.checkpoint import RunInfo, load_run
from model.config import TrainConfig
from model.crf import Transitions
from model.crops import crop_reader
from model.data import Batch, LengthBatches, PostDataset, loader
from model.objects import FromMemory, ObjectSource, no_objects, source_of
from model.tagger import Tagger
from schema.errors import ConfigError, DataError, RunError
from schema.labels import entities
from schema.prediction import Prediction
from schema.records import Entity, Post

Progress = Callable[[int, int], None]
AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Decoded:
    """A post's tags, its entities, and, if asked for, P(exactly these words are this entity | S, O) of each."""

    tags: tuple[str, ...]
    entities: tuple[Entity, ...]
    confidences: tuple[float, ...] = ()


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """Context for forward passes; `amp` is off, bf16 or fp16."""
    return torch.autocast(device.type, AMP_DTYPES.get(amp), enabled=amp != "off")


def decode(
    tagger: Tagger,
    dataset: PostDataset,
    config: TrainConfig,
    device: torch.device,
    *,
    confidences: bool = False,
    progress: Progress | None = None,
) -> list[Decoded]:
    """Decode every post of the dataset, in order. Paths are valid IOB2; words without a vector get `O`."""
    results: dict[int, Decoded] = {}
    was_training, done = tagger.training, 0
    tagger.eval()
    batches = LengthBatches(dataset.n_cells(), config.batch, config.max_cells)
    allowed = Transitions.iob2(dataset.labels.tags).to(device)
    with torch.no_grad(), autocast(device, config.amp):
        for cpu_batch in loader(dataset, batches, tagger.featurizer, device, workers=0):
            batch = tagger.with_features(cpu_batch.to(device))
            emissions = tagger.emissions(batch)
            paths = tagger.crf.decode(emissions, batch.word_mask, allowed)
            decoded = _decoded(tagger, dataset, batch, emissions, paths, confidences)
            results.update(zip(batch.rows, decoded, strict=True))
            done += len(batch)
            if progress:
                progress(done, len(dataset))
    tagger.train(was_training)
    return [results[row] for row in range(len(dataset))]


def _decoded(
    tagger: Tagger, dataset: PostDataset, batch: Batch, emissions: Tensor, paths: list[list[int]], confidences: bool
) -> list[Decoded]:
    names = dataset.labels.tags
    tags = [tuple(names[index] for index in path) for path in paths]
    found = [tuple(entities(one)) for one in tags]
    sure = _confidences(tagger, dataset, batch, emissions, found) if confidences else [()] * len(tags)
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


def pick_device(name: str = "auto") -> torch.device:
    """ "auto": a GPU where torch sees one, else the CPU. Raises ConfigError for a device that is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not (name.split(":")[0] == "cuda" and torch.cuda.is_available()):
        raise ConfigError(f"no device {name!r} here", todo="use auto, cpu, or cuda where there is a GPU")
    return torch.device(name)


class Run:
    """A trained run on a device."""

    def __init__(self, info: RunInfo, tagger: Tagger, device: torch.device) -> None:
        self.info, self.device = info, device
        self.tagger: Tagger = tagger.to(device).eval()

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Self:
        """The run in `folder`, which is a run's folder or the `model` in it; raises RunError where it is incomplete."""
        path = Path(folder)
        if not path.is_dir():
            raise RunError("no such run", where=str(path), todo="train it, or pull it (dvc pull)")
        info, tagger = load_run(path / "model" if (path / "model").is_dir() else path)
        return cls(info, tagger, pick_device(device))

    def predict(
        self,
        posts: Sequence[Post],
        objects: Sequence[Objects] | None = None,
        progress: Progress | None = None,
        images: Path | None = None,
    ) -> list[Prediction]:
        """Predict posts whose objects are in memory, one value a post; None: no objects, for runs on text alone.

        `images` is the folder of the posts' images, for runs that read crops.
        """
        if objects is None:
            if self.info.config.objects != "none":
                raise RunError("this run reads objects", found="none", todo="give each post's objects")
            return self._predict(posts, no_objects, progress, images)
        if len(objects) != len(posts) or len({post.id for post in posts}) != len(posts):
            raise DataError("each post needs an id of its own and its objects", found=f"{len(posts)}, {len(objects)}")
        given = {post.id: one for post, one in zip(posts, objects, strict=True)}
        return self._predict(posts, FromMemory(given), progress, images)

    def predict_pack(
        self, posts: Sequence[Post], pack: Pack | None, progress: Progress | None = None, images: Path | None = None
    ) -> list[Prediction]:
        """Predict posts with the objects of a pack (`model.objects.open_pack` finds the one that the run reads).

        `images` is the folder of the posts' images, for runs that read crops.
        Raises PackError for a pack that does not fit run or posts.
        """
        if pack is not None:
            self.info.check_pack(pack.meta, str(pack.folder))
        return self._predict(posts, source_of(self.info.config, pack, posts), progress, images)

    def _predict(
        self, posts: Sequence[Post], source: ObjectSource, progress: Progress | None, images: Path | None
    ) -> list[Prediction]:
        if not posts:
            return []
        crops = crop_reader(self.tagger.crop_net, images)
        info = self.info
        untagged = [replace(post, tags=None) for post in posts]  # their labels may be another set's
        dataset = PostDataset(untagged, source, info.labels, self.tagger.featurizer, info.config, info.seed, crops)
        decoded = decode(self.tagger, dataset, info.config, self.device, confidences=True, progress=progress)
        return [
            Prediction.make(post, zip(one.entities, one.confidences, strict=True), source(post).regions, info.synthetic)
            for post, one in zip(posts, decoded, strict=True)
        ]

"""Prediction with a trained run: posts and their objects in, entities with confidence and grounded boxes out.

Tags come from constrained Viterbi decoding in batches, confidences from the CRF's marginals.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from cache.packs import Objects, Pack
from kernels import usable_dtype
from model.checkpoint import RunInfo, load_run
from model.config import TrainConfig
from model.crf import iob2_transitions
from model.crops import crop_reader
from model.data import Batch, LengthBatches, PostDataset, loader
from model.objects import FromMemory, ObjectSource, no_objects, source_of
from model.tagger import Tagger
from schema.errors import ConfigError, DataError, RunError
from schema.labels import LabelSet, entities
from schema.prediction import Prediction
from schema.records import Entity, Post

Progress = Callable[[int, int], None]
AMP_DTYPES = {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}


class Decoded(NamedTuple):
    """A post's tags, its entities, and, if requested, P(exactly these words are this entity | S, O) of each."""

    tags: tuple[str, ...]
    entities: tuple[Entity, ...]
    confidences: tuple[float, ...] = ()


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """Context for forward passes; `amp` is off, bf16 or fp16. A CPU without bfloat16 computes in float32."""
    dtype = usable_dtype(AMP_DTYPES[amp], device.type)
    return torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != "float32")


def decode(
    tagger: Tagger,
    dataset: PostDataset,
    config: TrainConfig,
    device: torch.device,
    *,
    confidences: bool = False,
    progress: Progress | None = None,
) -> list[Decoded]:
    """Decode every post, in order. Tags are valid IOB2; words without a vector get `O`."""
    results: dict[int, Decoded] = {}
    was_training, names = tagger.training, dataset.labels.tags
    allowed = iob2_transitions(names)
    tagger.eval()
    batches = LengthBatches(dataset.n_cells(), config.batch, config.max_cells)
    with torch.no_grad(), autocast(device, config.amp):
        for cpu_batch in loader(dataset, batches, tagger.featurizer, device, workers=0):
            batch = tagger.with_features(cpu_batch.to(device))
            emissions = tagger.emissions(batch)
            paths = tagger.crf.decode(emissions, batch.word_mask, allowed)
            tags = [tuple(names[index] for index in path) for path in paths]
            spans = [tuple(entities(post_tags)) for post_tags in tags]
            probs = _confidences(tagger, dataset.labels, batch, emissions, spans) if confidences else [()] * len(tags)
            for row, post_tags, post_spans, post_probs in zip(batch.rows, tags, spans, probs, strict=True):
                n_missing = dataset.posts[row].n_words - len(post_tags)
                results[row] = Decoded(post_tags + ("O",) * n_missing, post_spans, post_probs)
            if progress:
                progress(len(results), len(dataset))
    tagger.train(was_training)
    return [results[row] for row in range(len(dataset))]


def _confidences(
    tagger: Tagger, labels: LabelSet, batch: Batch, emissions: Tensor, spans: list[tuple[Entity, ...]]
) -> list[tuple[float, ...]]:
    ids = labels.tag_ids
    rows = [
        (row, entity.span.start, entity.span.end, ids[f"B-{entity.type}"], ids[f"I-{entity.type}"])
        for row, post_spans in enumerate(spans)
        for entity in post_spans
    ]
    if not rows:
        return [()] * len(spans)
    columns = torch.tensor(rows, device=emissions.device)
    posts, bounds, (begin, inside) = columns[:, 0], columns[:, 1:3], columns[:, 3:].unbind(1)
    log_probs = tagger.crf.span_log_prob(emissions, batch.word_mask, posts, bounds, begin, inside)
    probs = iter(log_probs.exp().clamp(max=1.0).tolist())
    return [tuple(next(probs) for _ in post_spans) for post_spans in spans]


def pick_device(name: str = "auto") -> torch.device:
    """ "auto": a GPU if torch finds one, else the CPU. Raises ConfigError if the device is not available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not (name.split(":")[0] == "cuda" and torch.cuda.is_available()):
        raise ConfigError(f"the device {name!r} is not available", todo="use auto, cpu, or cuda where there is a GPU")
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
        objects: Pack | Sequence[Objects] | None = None,
        progress: Progress | None = None,
        images: Path | None = None,
    ) -> list[Prediction]:
        """Predict posts with their objects: a pack (`model.objects.open_pack`), one per post, or None (text only).

        `images`: the folder of the posts' images, for runs that read crops. Raises RunError without objects that the
        run reads, PackError for a pack that does not fit run or posts.
        """
        info = self.info
        source: ObjectSource = no_objects
        if isinstance(objects, Pack):
            info.check_pack(objects.meta, str(objects.folder))
            source = source_of(info.config, objects, posts)
        elif objects is not None:
            if len(objects) != len(posts) or len({post.id for post in posts}) != len(posts):
                found = f"{len(posts)} posts, {len(objects)} objects"
                raise DataError("each post needs a unique id and its objects", found=found)
            source = FromMemory(dict(zip((post.id for post in posts), objects, strict=True)))
        elif info.config.objects != "none":
            raise RunError("this run needs objects", found="none", todo="give each post's objects")
        if not posts:
            return []
        crops = crop_reader(self.tagger.crop_net, images)
        untagged = [replace(post, tags=None) for post in posts]  # their labels may be another set's
        dataset = PostDataset(untagged, source, info.labels, self.tagger.featurizer, info.config, info.seed, crops)
        decoded = decode(self.tagger, dataset, info.config, self.device, confidences=True, progress=progress)
        return [
            Prediction.make(post, zip(spans, probs, strict=True), source(post).regions, info.synthetic)
            for post, (_, spans, probs) in zip(posts, decoded, strict=True)
        ]

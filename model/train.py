"""Train an approach on a dataset: posts.parquet and pack in, a run's folder out; an interrupted training resumes."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from cache import atomic, keys
from cache.atomic import file_lock
from cache.packs import Pack
from cache.run_files import run_config
from cache.tables import Posts, read_posts
from model.approaches import approach
from model.checkpoint import RunInfo, digest_tensors, is_whole, save_run, versions
from model.config import TrainConfig
from model.crops import crop_network, crop_reader
from model.data import PostDataset
from model.distributed import ProcessGroup, join
from model.encoders import find_encoder
from model.objects import ObjectSource, open_pack, source_of
from model.predict import Progress, pick_device
from model.resume import SAVE_EVERY_S, FileCheckpointer
from model.tagger import ModelSpec, Tagger
from model.trainer import EpochResult, Trainer
from schema.checks import training_warnings
from schema.errors import DataError, RunError, WeightsError
from schema.lattice import CutObjects
from schema.records import Post

# What a run keeps of the metadata that ingest wrote to posts.parquet; `source` is how the files were read (tag scheme,
# tokenizer), so that prediction can read files of the same kind.
NOTED = ("variant", "warning", "sources", "source")
GPU_WORKERS = 2  # processes that prefetch from the pack for a GPU


@dataclass(frozen=True)
class Inputs:
    """The inputs of a training: checked configuration (with the approach's changes) and data in memory."""

    approach: str
    seed: int
    config: TrainConfig
    table: Posts
    pack: Pack | None
    source: ObjectSource
    digests: dict[str, str]
    images: Path | None = None  # the folder of the posts' images, if crops are read

    def split(self, name: str) -> list[Post]:
        """Labelled posts of a split; raises DataError if there are none."""
        posts = [post for post in self.table.posts if post.split == name and post.tags is not None]
        if not posts:
            raise DataError(f"training needs labelled posts in {name}", todo="a dataset in train_on has train and dev")
        return posts


def run(
    config: TrainConfig,
    approach_name: str,
    seed: int,
    posts: Path,
    pack: Path | None,
    out: Path,
    resume_root: Path,
    *,
    images: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda message: None,
    save_every_s: float = SAVE_EVERY_S,
) -> Iterator[EpochResult]:
    """Train and publish `out/curves.json` and `out/model`; yields each epoch, first those of an interrupted call.

    `config` is the dataset's section, to which the approach applies its changes; `images` is the folder of the posts'
    images, for `vision.finetune`; `warn` gets a message for each problem of the data. Started by a launcher, all
    processes train one model and the first one publishes. The state to resume from is in
    `resume_root/<digest of configuration and inputs>` and is removed after publication. Nothing happens before the
    first `next`, and nothing is published unless the iterator is exhausted. Raises RunError if another process is
    training the same run.
    """
    inputs = read_inputs(config, approach_name, seed, posts, pack, images)
    processes = join(pick_device(device))
    torch.manual_seed(seed)
    tagger = _build(inputs)
    start = digest_tensors(tagger.state_dict())
    if processes.from_first(lambda: start) != start:
        raise RunError("processes start from different weights", todo="give all of them the same machine type and data")
    trainer = _trainer(inputs, tagger, processes)
    resume = resume_root / keys.key(
        "train",
        config=inputs.config.model_dump(),
        approach=approach_name,
        seed=seed,
        inputs=inputs.digests,
        start=start,
    )
    with file_lock(resume, "trains this very run") if processes.first else nullcontext():
        about_data = inputs.table.meta.get("warning")
        for message in [*([about_data] if about_data else []), *_warnings(inputs, trainer)]:
            warn(message)
        yield from trainer.epochs(FileCheckpointer(resume, save_every_s), progress)
        if trainer.selection:
            warn(trainer.selection)
        if processes.first:
            _publish(inputs, trainer, start, out)
            shutil.rmtree(resume, ignore_errors=True)
    processes.wait()


def read_inputs(
    config: TrainConfig, approach_name: str, seed: int, posts: Path, pack: Path | None, images: Path | None = None
) -> Inputs:
    """Read posts and pack, and check that they fit the configuration."""
    configured = approach(approach_name).configure(config)
    table, opened = read_posts(posts), open_pack(configured, pack)
    source = source_of(configured, opened, table.posts)
    return Inputs(approach_name, seed, configured, table, opened, source, digests_of(posts, opened), images)


def digests_of(posts: Path, pack: Pack | None) -> dict[str, str]:
    """What a run records of its data: sha256 of posts.parquet, and of the pack that it reads, if any."""
    return {"posts": keys.digest_file(posts), **({"pack": pack.digest()} if pack else {})}


def _build(inputs: Inputs) -> Tagger:
    words = [post.words for post in inputs.split("train")]
    dim = inputs.pack.meta.dim if inputs.pack else 1
    tagger = approach(inputs.approach).build(ModelSpec(inputs.config, inputs.table.labels, dim, None, words))
    tagger.crop_net = crop_network(inputs.config, inputs.pack.meta if inputs.pack else None, trained=False)
    return tagger


def _trainer(inputs: Inputs, tagger: Tagger, processes: ProcessGroup) -> Trainer:
    crops = crop_reader(tagger.crop_net, inputs.images)
    train, dev = (
        PostDataset(
            inputs.split(name), inputs.source, inputs.table.labels, tagger.featurizer, inputs.config, inputs.seed, crops
        )
        for name in ("train", "dev")
    )
    workers = GPU_WORKERS if processes.device.type == "cuda" else 0
    return Trainer(tagger, train, dev, inputs.config, inputs.seed, processes.device, workers, processes)


def _cut(trainer: Trainer) -> dict[str, CutObjects]:
    return {"train": trainer.train.cut, "dev": trainer.dev.cut}


def _warnings(inputs: Inputs, trainer: Trainer) -> list[str]:
    """What is wrong with the data, known before the first epoch; a sentence each, without a full stop."""
    reads_images = inputs.config.objects != "none" and inputs.config.control != "empty"
    warnings = training_warnings(inputs.table.posts, reads_images=reads_images)
    for split, cut in _cut(trainer).items():
        if cut.n_objects:
            cause = f"max_objects: {inputs.config.max_objects} or the encoder's max_pieces"
            warnings.append(f"{split}: {cut.message()}, are left out of the lattice by {cause}")
    return warnings


def _publish(inputs: Inputs, trainer: Trainer, start: str, out: Path) -> None:
    history = trainer.position.history
    selected = next(result for result in history if result.epoch == trainer.position.best_epoch)
    info = RunInfo(
        approach=inputs.approach,
        seed=inputs.seed,
        config=inputs.config,
        labels=inputs.table.labels,
        pack=inputs.pack.meta if inputs.pack else None,
        inputs={**inputs.digests, **trainer.tagger.origin(), "start_weights": start},
        n_posts={"train": len(trainer.train), "dev": len(trainer.dev)},
        n_cut={name: cut.n_objects for name, cut in _cut(trainer).items()},
        n_cut_phrases={name: cut.n_phrases for name, cut in _cut(trainer).items()},
        selection=trainer.selection,
        warnings=tuple(_warnings(inputs, trainer)),
        dev=selected.curve(),
        versions=versions(),
        data={name: inputs.table.meta[name] for name in NOTED if name in inputs.table.meta},
    )
    atomic.write_json(out / "curves.json", [one.curve() for one in history])
    save_run(out / "model", info, trainer.tagger)


def is_up_to_date(run: Path, config: TrainConfig, seed: int, digests: Mapping[str, str]) -> bool:
    """Whether `run` holds a complete run, trained with `config` and `seed` on data with these `digests`.

    False for damaged runs and those of another schema version. A file of word vectors or an encoder that is no longer
    on this machine is not compared.
    """
    if not is_whole(run / "model"):
        return False
    try:
        then = run_config(run)
    except RunError:
        return False
    now = {**digests, **_start_digests(config, then["inputs"])}
    same = {name: then["inputs"].get(name) for name in now} == now
    return same and then["config"] == json.loads(config.model_dump_json()) and then["seed"] == seed


def _start_digests(config: TrainConfig, inputs: Mapping[str, str]) -> dict[str, str]:
    """Current digests of the files that a run with these `inputs` started from, if they are on this machine."""
    digests = {}
    words, folder = Path(config.words), Path(config.encoder).expanduser()
    if "words" in inputs and words.is_file():
        digests["words"] = _digest(words, _stamp(words))
    if "encoder" in inputs and not config.encoder_digest:  # a pinned one is checked when it is loaded
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        with contextlib.suppress(WeightsError):
            digests["encoder"] = _encoder(config.encoder, config.encoder_revision, tuple(map(_stamp, files)))
    return digests


def _stamp(path: Path) -> tuple[str, int, int]:
    """Changes when a file is changed, and needs no reading."""
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns


@lru_cache
def _digest(path: Path, stamp: tuple[str, int, int]) -> str:
    """Digest of a file that may have gigabytes: computed once per process, unless its stamp changes."""
    return keys.digest_file(path)


@lru_cache
def _encoder(name: str, revision: str, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Digest of an encoder's weights, cached likewise."""
    return find_encoder(TrainConfig(encoder=name, encoder_revision=revision)).digest

"""Train an approach on a dataset: posts.parquet and pack in, a run's folder out; an interrupted call goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from cache import atomic, keys
from cache.alone import alone
from cache.packs import Pack
from cache.tables import Posts, read_posts
from model.approaches import approach
from model.checkpoint import RunInfo, digest_tensors, save_run, versions
from model.config import TrainConfig
from model.crops import attach, reader_of
from model.data import PostDataset
from model.decode import Progress
from model.fit import EpochResult, Trainer
from model.objects import ObjectSource, open_pack, source_of
from model.predict import pick_device
from model.resume import SAVE_EVERY_S, FileKeeper
from model.tagger import Setting, Tagger
from model.world import World, join
from schema.errors import DataError, RunError
from schema.records import Post

NOTED = ("variant", "warning", "sources")  # by ingest, of the files: a run keeps it
GPU_WORKERS = 2  # processes that read the pack ahead of a GPU


@dataclass(frozen=True)
class Inputs:
    """What one training is told: checked configuration (changes of the approach included) and data in memory."""

    approach: str
    seed: int
    config: TrainConfig
    table: Posts
    pack: Pack | None
    source: ObjectSource
    digests: dict[str, str]
    images: Path | None = None  # the folder of the posts' pictures, where crops are read

    def split(self, name: str) -> list[Post]:
        """Labelled posts of a split; raises DataError where there are none."""
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
    save_every_s: float = SAVE_EVERY_S,
) -> Iterator[EpochResult]:
    """Train and publish `out/curves.json` and then `out/model`; yields each epoch, those of a broken-off call first.

    `config` is the dataset's section; the approach changes what it names; `images` is the folder of the posts'
    pictures, which `vision.finetune` reads. Started by a launcher, all processes train one model, and the first one
    publishes. What an interrupted call goes on from lies in
    `resume_root/<digest of configuration and inputs>` and is removed after publication. Nothing happens until the
    iterator is asked, and nothing is published unless it is exhausted. Raises RunError where another process trains the
    very same run at this moment.
    """
    inputs = read_inputs(config, approach_name, seed, posts, pack, images)
    world = join(pick_device(device))
    torch.manual_seed(seed)
    tagger = _build(inputs)
    start = digest_tensors(tagger.state_dict())
    if world.from_first(lambda: start) != start:
        raise RunError("processes start from different weights", todo="give all of them the same machine type and data")
    trainer = _trainer(inputs, tagger, world)
    resume = resume_root / keys.key(
        "train",
        config=inputs.config.model_dump(),
        approach=approach_name,
        seed=seed,
        inputs=inputs.digests,
        start=start,
    )
    with alone(resume, "trains this very run") if world.first else nullcontext():
        yield from trainer.epochs(FileKeeper(resume, save_every_s), progress)
        if world.first:
            _publish(inputs, trainer, start, out)
            shutil.rmtree(resume, ignore_errors=True)
    world.wait()


def read_inputs(
    config: TrainConfig, approach_name: str, seed: int, posts: Path, pack: Path | None, images: Path | None = None
) -> Inputs:
    """Read posts and pack, and check that they fit the setting."""
    changed = approach(approach_name).configure(config)
    table, opened = read_posts(posts), open_pack(changed, pack)
    source = source_of(changed, opened, table.posts)
    return Inputs(approach_name, seed, changed, table, opened, source, digests_of(posts, opened), images)


def digests_of(posts: Path, pack: Pack | None) -> dict[str, str]:
    """What a run remembers of its data: sha256 of posts.parquet, and of the pack that its setting reads, if any."""
    return {"posts": keys.digest_file(posts), **({"pack": pack.digest()} if pack else {})}


def _build(inputs: Inputs) -> Tagger:
    words = [post.words for post in inputs.split("train")]
    dim = inputs.pack.meta.dim if inputs.pack else 1
    tagger = approach(inputs.approach).build(Setting(inputs.config, inputs.table.labels, dim, None, words))
    attach(tagger, inputs.config, inputs.pack.meta if inputs.pack else None, trained=False)
    return tagger


def _trainer(inputs: Inputs, tagger: Tagger, world: World) -> Trainer:
    crops = reader_of(tagger, inputs.images)
    train, dev = (
        PostDataset(
            inputs.split(name), inputs.source, inputs.table.labels, tagger.featurizer, inputs.config, inputs.seed, crops
        )
        for name in ("train", "dev")
    )
    workers = GPU_WORKERS if world.device.type == "cuda" else 0
    return Trainer(tagger, train, dev, inputs.config, inputs.seed, world.device, workers, world)


def _publish(inputs: Inputs, trainer: Trainer, start: str, out: Path) -> None:
    history = trainer.position.history
    chosen = next(one for one in history if one.epoch == trainer.position.best_epoch)
    info = RunInfo(
        approach=inputs.approach,
        seed=inputs.seed,
        config=inputs.config,
        labels=inputs.table.labels,
        pack=inputs.pack.meta if inputs.pack else None,
        inputs={**inputs.digests, **trainer.tagger.origin(), "start_weights": start},
        n_posts={"train": len(trainer.train), "dev": len(trainer.dev)},
        n_cut={"train": trainer.train.n_cut, "dev": trainer.dev.n_cut},
        dev=chosen.curve(),
        versions=versions(),
        data={name: inputs.table.meta[name] for name in NOTED if name in inputs.table.meta},
    )
    atomic.write_json(out / "curves.json", [one.curve() for one in history])
    save_run(out / "model", info, trainer.tagger)

"""Train an approach on a dataset: posts.parquet and pack in, a run's folder out; an interrupted training resumes."""

import contextlib
import json
import shutil
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from cache import atomic, keys
from cache.packs import Pack
from cache.run_files import run_config
from cache.tables import read_posts
from model.approaches import approach
from model.checkpoint import SCHEMA_VERSION, RunInfo, digest_tensors, save_run, versions
from model.config import TrainConfig
from model.crops import crop_network, crop_reader
from model.data import PostDataset
from model.distributed import ProcessGroup, join
from model.objects import ObjectSource, open_pack, source_of
from model.predict import Progress, pick_device
from model.tagger import ModelSpec
from model.trainer import SAVE_EVERY_S, Checkpointer, EpochResult, Trainer
from model.words import find_encoder
from schema.checks import training_warnings
from schema.errors import DataError, RunError, WeightsError
from schema.lattice import CutObjects
from schema.records import Post

# The metadata of posts.parquet that a run records; `source` is how the files were read (tag scheme, tokenizer), so that
# prediction can read files of the same kind.
NOTED = ("variant", "warning", "sources", "source")


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

    `config` is the dataset's section, to which the approach applies its changes; `images`: the folder of the posts'
    images, for `train.vision.finetune`; `warn` gets a message for each problem of the data. The checkpoint to resume
    from is in a folder of `resume_root` and is removed after publication. Nothing happens before the first `next`, and
    nothing is published unless the iterator is exhausted. Raises RunError if another process is training the same run.
    """
    config = approach(approach_name).configure(config)
    table, opened = read_posts(posts), open_pack(config, pack)
    digests, processes = digests_of(posts, opened), join(pick_device(device))
    info = RunInfo(approach_name, seed, config, table.labels, opened.meta if opened else None)
    trainer = _trainer(info, table.posts, source_of(config, opened, table.posts), images, processes)
    start = digest_tensors(trainer.tagger.state_dict())
    if processes.from_first(lambda: start) != start:
        raise RunError(
            "processes start from different weights", todo="use the same machine type and data for all of them"
        )
    identity = {"config": config.model_dump(), "approach": approach_name, "seed": seed, "inputs": digests}
    resume = resume_root / keys.key("train", **identity, start=start)
    datasets = {"train": trainer.train, "dev": trainer.dev}
    cut = {split: dataset.cut for split, dataset in datasets.items()}
    warnings = _warnings(table.posts, config, cut)
    with atomic.file_lock(resume, "is training this run") if processes.first else contextlib.nullcontext():
        about_data = table.meta.get("warning")
        for message in [about_data, *warnings] if about_data else warnings:
            warn(message)
        yield from trainer.epochs(Checkpointer(resume, save_every_s), progress)
        if trainer.selection:
            warn(trainer.selection)
        if processes.first:
            info = replace(
                info,
                inputs={**digests, **trainer.tagger.words.origin, "start_weights": start},
                n_posts={split: len(dataset) for split, dataset in datasets.items()},
                dev=trainer.position.history[trainer.position.best_epoch - 1].curve(),
                versions=versions(),
                n_cut={split: objects.n_objects for split, objects in cut.items()},
                n_cut_phrases={split: objects.n_phrases for split, objects in cut.items()},
                data={name: table.meta[name] for name in NOTED if name in table.meta},
                selection=trainer.selection,
                warnings=tuple(warnings),
            )
            atomic.write_json(out / "curves.json", [result.curve() for result in trainer.position.history])
            save_run(out / "model", info, trainer.tagger)
            shutil.rmtree(resume, ignore_errors=True)
    processes.from_first(lambda: None)  # waits until every process has arrived here


def digests_of(posts: Path, pack: Pack | None) -> dict[str, str]:
    """What a run records of its data: sha256 of posts.parquet, and of the pack that it reads, if any."""
    return {"posts": keys.digest_file(posts), **({"pack": pack.digest()} if pack else {})}


def _trainer(
    info: RunInfo, posts: Sequence[Post], source: ObjectSource, images: Path | None, processes: ProcessGroup
) -> Trainer:
    """The new tagger with its data; raises DataError if train or dev has no labeled posts."""
    config, labels = info.config, info.labels
    labelled = {split: [p for p in posts if p.split == split and p.tags is not None] for split in ("train", "dev")}
    for split in labelled:
        if not labelled[split]:
            raise DataError(f"training needs labeled posts in {split}", todo="a dataset in train_on has train and dev")
    torch.manual_seed(info.seed)
    words = [post.words for post in labelled["train"]]
    tagger = approach(info.approach).build(ModelSpec(config, labels, info.pack.dim if info.pack else 1, None, words))
    tagger.crop_net = crop_network(config, info.pack, trained=False)
    crops = crop_reader(tagger.crop_net, images)
    train, dev = (
        PostDataset(split, source, labels, tagger.featurizer, config, info.seed, crops) for split in labelled.values()
    )
    return Trainer(tagger, train, dev, config, info.seed, processes)


def _warnings(posts: Sequence[Post], config: TrainConfig, cut: Mapping[str, CutObjects]) -> list[str]:
    """Problems of the data, known before the first epoch; a sentence each, without a full stop."""
    warnings = training_warnings(posts, reads_images=config.objects != "none" and config.control != "empty")
    cause = f"max_objects: {config.max_objects} or the encoder's max_pieces"
    return warnings + [
        f"{split}: {objects.message()}, are left out of the lattice by {cause}"
        for split, objects in cut.items()
        if objects.n_objects
    ]


def is_up_to_date(run: Path, config: TrainConfig, seed: int, digests: Mapping[str, str]) -> bool:
    """Whether `run` holds a complete run, trained with `config` and `seed` on data with these `digests`.

    False for damaged runs and for other schema versions. A file of word vectors or an encoder that is no longer
    on this machine is not compared.
    """
    try:
        then = run_config(run)
        with safe_open(run / "model" / "weights.safetensors", framework="pt") as weights:
            is_complete = bool(weights.keys()) and then.get("schema_version") == SCHEMA_VERSION
    except (RunError, OSError, SafetensorError):
        return False
    now, words = dict(digests), Path(config.words)
    if "words" in then["inputs"] and words.is_file():
        now["words"] = _digest(config.words, None, _stamps(words))
    if "encoder" in then["inputs"] and not config.encoder_digest:  # a pinned one is checked when it is loaded
        stamps = _stamps(Path(config.encoder).expanduser())
        with contextlib.suppress(WeightsError):
            now["encoder"] = _digest(config.encoder, config.encoder_revision, stamps)
    same = {name: then["inputs"].get(name) for name in now} == now
    return is_complete and same and then["config"] == json.loads(config.model_dump_json()) and then["seed"] == seed


def _stamps(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of a file or of a folder's files: they change with the contents, and need no reading."""
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


@lru_cache
def _digest(name: str, revision: str | None, stamps: Hashable) -> str:
    """Digest of an encoder, or without `revision` of a file; of gigabytes, so once per process while `stamps` stay."""
    if revision is None:
        return keys.digest_file(Path(name))
    return find_encoder(TrainConfig(encoder=name, encoder_revision=revision))[1]["encoder"]

"""What each of several processes runs: `python -m tests.model.together ENCODER OUT`, started by a launcher or alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from model.approaches import approach
from model.data import PostDataset
from model.distributed import join
from model.objects import FromMemory
from model.tagger import ModelSpec
from model.trainer import Checkpointer, Trainer
from tests.model.tiny import DIM, LABELS, linked, tiny_config


def main(encoder: Path, out: Path) -> None:
    """Train in float64 without dropout and write what came out; 17 posts in batches of 8: one batch is one post."""
    processes = join(torch.device("cpu"))
    config = approach("fmit").configure(tiny_config(encoder, dropout=0.0, accumulate=2, epochs=2, clip=0.5))
    torch.manual_seed(0)
    tagger = approach("fmit").build(ModelSpec(config, LABELS, DIM)).double()
    made = [linked(n, seed) for n, seed in ((17, 3), (6, 4))]
    splits = [PostDataset(posts, FromMemory(objects), LABELS, tagger.featurizer, config) for posts, objects in made]
    trainer = Trainer(tagger, splits[0], splits[1], config, 0, processes)
    rows = [one.curve() for one in trainer.epochs(Checkpointer(out / "resume", every_s=0))]
    name = f"{processes.rank}-of-{processes.size}"
    save_file(tagger.state_dict(), out / f"{name}.safetensors")
    (out / f"{name}.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""A study of a few drawn posts with a tiny encoder, prepared and perhaps trained: seconds, not minutes."""

from __future__ import annotations

from pathlib import Path

from commands.study.study import Study
from commands.study.tiny import DATASETS, open_tiny
from schema.records import Split
from synthetic.gold import FILE, gold, lines
from synthetic.posts import draft
from synthetic.scenes import compose, shard_rng
from tests import own
from tests.model.tiny import write_encoder

SIZES: dict[Split, int] = {"train": 6, "dev": 4, "test": 4}
APPROACHES = ("fmit", "fmit-l1", "fmit-random-boxes", "fmit-no-obj", "bert-crf")


def make_study(root: Path, approaches: tuple[str, ...] = APPROACHES) -> Study:
    """Two datasets in `root/project/data`; nothing is prepared yet."""
    encoder = root / "encoder"
    if not encoder.is_dir():
        write_encoder(encoder)
    for dataset in DATASETS:
        folder = root / "project" / "data" / dataset
        if not folder.is_dir():
            own.write_posts(folder, SIZES)
            drafts = [draft(0, split, k) for split, size in SIZES.items() for k in range(size)]
            gold_posts = [gold(one, compose(shard_rng(0, one.number), one.wanted)) for one in drafts]
            (folder / FILE).write_text(lines(gold_posts), encoding="utf-8")
    train = {"encoder": str(encoder), "max_pieces": 32, "width": 16, "heads": 2, "epochs": 1}
    return open_tiny(root, approaches, sizes=SIZES, train=train)

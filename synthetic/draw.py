"""Stage draw: a smoke shard in `data/<name>/`, laid out as any other dataset."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import Field, field_validator

from cache import atomic
from pipeline.engine import Progress, silent
from schema.config import Config
from schema.records import Split
from synthetic.gold import FILE as GOLD_FILE
from synthetic.gold import Ceilings, GoldPost, ceilings, gold, lines
from synthetic.posts import BLOCK, Draft, draft
from synthetic.scenes import compose, png_bytes, shard_rng

BROKEN_BYTES = 400  # what is left of a broken image: its header and a little more
N_THREADS = min(4, os.cpu_count() or 1)  # Pillow draws and compresses outside Python's lock


class DrawConfig(Config):
    """How many posts a drawn dataset has: whole blocks, or names and templates would not be balanced."""

    n_train: int = Field(default=480, ge=0)
    n_dev: int = Field(default=160, ge=0)
    n_test: int = Field(default=240, ge=0)
    seed: int = Field(default=0, ge=0)

    @field_validator("n_train", "n_dev", "n_test")
    @classmethod
    def _check_blocks(cls, n_posts: int) -> int:
        if n_posts % BLOCK:
            raise ValueError(f"posts come in blocks of {BLOCK}, use {round(n_posts / BLOCK) * BLOCK or BLOCK}")
        return n_posts

    @property
    def sizes(self) -> dict[Split, int]:
        named: dict[Split, int] = {"train": self.n_train, "dev": self.n_dev, "test": self.n_test}
        return {split: size for split, size in named.items() if size}


PRESETS = {"smoke": DrawConfig(), "tiny": DrawConfig(n_train=160, n_dev=80, n_test=80)}


@dataclass(frozen=True)
class DrawReport:
    """Number of posts and ceilings of each split."""

    sizes: dict[Split, int]
    ceilings: dict[Split, Ceilings]

    def line(self, dataset: str) -> str:
        split: Split = "test" if "test" in self.ceilings else next(iter(self.ceilings))
        best = self.ceilings[split]
        return (
            f"draw {dataset}: {sum(self.sizes.values())} posts; highest F1 that can be expected on {split}: "
            f"{best.text:.4f} by text alone, {best.images:.4f} with images"
        )


def run(config: DrawConfig, out: Path, progress: Progress = silent) -> DrawReport:
    """Publish a drawn dataset as the folder `out`, in place of an older one; the same config gives the same bytes.

    Ingest reads `<split>.jsonl` and `images/`; `gold.jsonl` (synthetic.gold) and `ceilings.json` are for scoring.
    """
    drafts = {split: [draft(config.seed, split, k) for k in range(size)] for split, size in config.sizes.items()}
    posts = [post for some in drafts.values() for post in some]
    best = {split: ceilings(some) for split, some in drafts.items()}
    with atomic.folder(out) as folder:
        images = folder / "images"
        images.mkdir()

        def draw(post: Draft) -> GoldPost:
            scene = compose(shard_rng(config.seed, post.number), post.things)
            if post.image != "missing":
                data = png_bytes(scene)
                (images / f"{post.id}.png").write_bytes(data if post.image == "ok" else data[:BROKEN_BYTES])
            return gold(post, scene)

        for split, some in drafts.items():
            (folder / f"{split}.jsonl").write_text("".join(map(_row, some)), encoding="utf-8")
        found = []
        with ThreadPoolExecutor(N_THREADS) as pool:
            for one in pool.map(draw, posts):
                found.append(one)
                progress(len(found), len(posts))
        (folder / GOLD_FILE).write_text(lines(found), encoding="utf-8")
        report = {"schema_version": 1} | {split: asdict(value) for split, value in best.items()}
        (folder / "ceilings.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return DrawReport(config.sizes, best)


def _row(post: Draft) -> str:
    row = {"id": post.id, "tokens": list(post.words), "labels": post.tags, "images": [f"{post.id}.png"]}
    return json.dumps(row, ensure_ascii=False) + "\n"

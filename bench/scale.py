"""The stages from ten thousand to a million posts: time a post, peak memory, bytes, and what one changed post costs.

    python -m bench.scale --posts 10000,100000,1000000 --folder /tmp/scale

Every stage runs in a process of its own. Its figures are kept in the folder, so that a bench that was stopped goes on
with the next stage (`--limit SECONDS`: it stops before a stage once this time has passed). The posts repeat a fifth as
many texts, on 64 images: a million posts have about 200,000 distinct trees, boxes and features. A parser and a network
that cost nothing make the rows, and boxes are random; `*-stored` is the same stage once all rows are stored. Writes
bench/results/scale.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import PIL.Image
import torch
from torch import Tensor

from bench.timing import memory_mb
from cache import atomic, keys
from cache.packs import Pack
from pipeline.corpus import stage as ingest
from pipeline.corpus.config import SourceConfig
from pipeline.engine import silent
from pipeline.grounding import stage as grounding
from pipeline.grounding.config import GroundConfig
from pipeline.phrases import stage as parsing
from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.parser import Parsed
from pipeline.regions import stage as regions
from pipeline.regions.config import RegionsConfig
from vision.backbones import FeatureNet
from vision.crops import Transform

N_IMAGES = 64
POSTS_A_TEXT = 5
DIM = 64  # floats a feature
MIN_BUCKETS, BUCKET_POSTS = 64, 2000  # files of a pack, and posts of a bucket beyond them
N_READS = 50_000  # posts read in random order, as in training
RESULTS = Path("bench/results/scale.json")
SOURCE = SourceConfig(format="jsonl", files={"train": "posts.jsonl"}, image_suffix=".png")
TAGS = ["O", "B-LOC", *["O"] * 9]
Figures = dict[str, Any]


class CheapParser:
    """Three phrases in every sentence of the bench."""

    identity = {"name": "bench-parser"}  # noqa: RUF012

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        return [Parsed(((1, 2, "NP"), (3, 6, "NP"), (7, 10, "NP")) if len(words) > 9 else ()) for words in sentences]


def cheap_net() -> FeatureNet:
    """The means of a crop's colours, repeated."""

    def load() -> Callable[[Tensor], Tensor]:
        return lambda crops: crops[:, :1, :1, :1].float().expand(-1, DIM, 1, 1)

    return FeatureNet(load, Transform(8, 8), DIM, {"name": "bench-net"}, torch.device("cpu"), torch.float32)


def raw_line(number: int, text: int) -> str:
    tokens = ["Visiting", f"Town{text}", "near", "the", "old", "barn", "with", "a", "lazy", "dog", "today"]
    row = {"id": f"post-{number}", "tokens": tokens, "labels": TAGS, "images": [f"{text % N_IMAGES}.png"]}
    return json.dumps(row) + "\n"


def make(folder: Path, n_posts: int) -> Figures:
    """The raw files."""
    (folder / "raw" / "images").mkdir(parents=True)
    for number in range(N_IMAGES):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / "raw" / "images" / f"{number}.png")
    n_texts = max(1, n_posts // POSTS_A_TEXT)
    with (folder / "raw" / "posts.jsonl").open("w") as file:
        file.writelines(raw_line(number, number % n_texts) for number in range(n_posts))
    return {"bytes": (folder / "raw" / "posts.jsonl").stat().st_size}


def change(folder: Path, n_posts: int) -> Figures:
    """One post of the raw file gets a new text."""
    path, number = folder / "raw" / "posts.jsonl", n_posts // 2
    figures = {"buckets": digests(folder / "pack")}
    with path.open() as old, (folder / "raw" / "new.jsonl").open("w") as new:
        new.writelines(raw_line(at, n_posts) if at == number else line for at, line in enumerate(old))
    (folder / "raw" / "new.jsonl").replace(path)
    return figures


def digests(folder: Path) -> dict[str, str]:
    return {path.name: keys.digest_file(path) for path in sorted(folder.iterdir())}


def run_ingest(folder: Path, n_posts: int) -> Figures:
    report = ingest.run(SOURCE, folder / "raw", folder / "posts.parquet", silent)
    return {"rows": report.counts.total("n_posts"), **written(folder / "posts.parquet")}


def run_phrases(folder: Path, n_posts: int) -> Figures:
    parsing.open_parser = lambda config: CheapParser()  # type: ignore[assignment]
    tally = parsing.run(PhrasesConfig(), folder / "posts.parquet", folder / "phrases.parquet", folder / "store")
    return {"rows": tally.n_rows, "computed": tally.n_computed, **written(folder / "phrases.parquet")}


def run_ground(folder: Path, n_posts: int) -> Figures:
    tables = (folder / "posts.parquet", folder / "phrases.parquet")
    out, images = folder / "boxes.parquet", folder / "raw" / "images"
    tally = grounding.run(GroundConfig(grounder="random", workers=0), *tables, images, out, folder / "store")
    return {"rows": tally.n_rows, "computed": tally.n_computed, **written(out)}


def run_regions(folder: Path, n_posts: int) -> Figures:
    regions.open_net = lambda config: cheap_net()  # type: ignore[assignment]
    n_buckets = max(MIN_BUCKETS, n_posts // BUCKET_POSTS)
    config = RegionsConfig(store_dtype="float16", n_buckets=n_buckets, batch=256, workers=0, device="cpu")
    tables = (folder / "posts.parquet", folder / "boxes.parquet")
    tally = regions.run(config, *tables, folder / "raw" / "images", folder / "pack", folder / "store")
    return {"rows": tally.n_rows, "computed": tally.n_computed, **written(folder / "pack")}


def read_pack(folder: Path, n_posts: int) -> Figures:
    """Objects of every post once, as training plans them, then features of posts in random order."""
    pack = Pack(folder / "pack")
    n_objects = sum(len(pack.read(f"post-{number}").regions) for number in range(n_posts))
    start = time.perf_counter()
    order = np.random.default_rng(0).integers(0, n_posts, min(N_READS, n_posts))
    for number in order:
        np.array(pack.read(f"post-{number}").features)
    return {"rows": n_objects, "read_ms": 1000 * (time.perf_counter() - start) / len(order)}


def written(path: Path) -> Figures:
    files = [inner for inner in path.rglob("*") if inner.is_file()] if path.is_dir() else [path]
    return {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}


STAGES = {"ingest": run_ingest, "phrases": run_phrases, "ground": run_ground, "regions": run_regions}
STORED = {f"{name}-stored": run for name, run in STAGES.items() if name != "ingest"}
CHANGED = {f"{name}-changed": run for name, run in STAGES.items()}
PARTS = {"make": make, **STAGES, **STORED, "read": read_pack, "change": change, **CHANGED}


def measure(part: str, folder: Path, n_posts: int) -> Figures:
    """In this process: one part's figures."""
    start, start_cpu = time.perf_counter(), time.process_time()
    figures = PARTS[part](folder, n_posts)
    times = {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - start_cpu}
    return {**times, "peak_mb": memory_mb("VmHWM"), **figures}


def in_fresh_process(part: str, folder: Path, n_posts: int) -> Figures:
    """The part's figures, kept in the folder: a part that was measured is not run again."""
    kept = folder / f"{part}.json"
    if not kept.is_file():
        command = [
            sys.executable,
            "-m",
            "bench.scale",
            "--part",
            part,
            "--folder",
            str(folder),
            "--posts",
            str(n_posts),
        ]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        atomic.write_text(kept, output)
    return json.loads(kept.read_text())


def summary(folder: Path, n_posts: int, figures: dict[str, Figures]) -> dict[str, Any]:
    """Figures by part: microseconds a post, MB, rows; and the files that one changed post replaced."""
    before, after = figures["change"].pop("buckets"), digests(folder / "pack")
    replaced = [name for name, digest in after.items() if before.get(name) != digest]
    shown: dict[str, Any] = {"posts": n_posts, "changed_buckets": len(replaced), "buckets": len(after) - 1}
    shown["changed_bytes"] = sum((folder / "pack" / name).stat().st_size for name in replaced)
    for part, values in figures.items():
        shown[part] = {**values, "us_a_post": 1e6 * values["seconds"] / n_posts}
        shown[part]["cpu_us_a_post"] = 1e6 * values["cpu_s"] / n_posts
    return shown


def show(sizes: list[dict[str, Any]]) -> None:
    """A line for each part: microseconds of CPU a post and peak memory at each size, and the growth of the former."""
    for part in PARTS:
        rows = [size[part] for size in sizes]
        growth = rows[-1]["cpu_us_a_post"] / rows[0]["cpu_us_a_post"]
        cells = "".join(f"{row['cpu_us_a_post']:>9.0f} us {row['peak_mb']:>7.0f} MB" for row in rows)
        click.echo(f"{part:<16}{cells}   x {growth:.2f}")
    for size in sizes:
        n_files, n_mb = size["changed_buckets"], size["changed_bytes"] / 1e6
        click.echo(
            f"{size['posts']} posts: one changed post replaces {n_files} of {size['buckets']} buckets, {n_mb:.1f} MB"
        )


@click.command(help=__doc__)
@click.option("--posts", default="10000,100000,1000000", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Where to write (some GB); it is kept.")
@click.option("--limit", type=float, default=float("inf"), help="Seconds after which no further part is started.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--part", type=click.Choice(list(PARTS)), hidden=True)
def main(posts: str, folder: Path, limit: float, out: Path, part: str | None) -> None:
    if part:
        click.echo(json.dumps(measure(part, folder, int(posts))))
        return
    start, sizes = time.monotonic(), []
    for n_posts in map(int, posts.split(",")):
        place, figures = folder / str(n_posts), {}
        place.mkdir(parents=True, exist_ok=True)
        for name in PARTS:
            if time.monotonic() - start > limit:
                click.echo(f"stopped before {name} of {n_posts} posts: run the same command again to go on")
                return
            figures[name] = in_fresh_process(name, place, n_posts)
        sizes.append(summary(place, n_posts, figures))
    show(sizes)
    atomic.write_json(out, sizes)


if __name__ == "__main__":
    main()

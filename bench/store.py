"""The store and packs at size, against a plain memory map and per-row h5py in the same run.

    python -m bench.store --rows 10000,100000,1000000 --folder /tmp/bench

Rows are synthetic, 2048 x float16 (4 KB). Opening, tables and changes are each measured in a fresh process. "h5py" is
one contiguous dataset of one file, read row by row, "map" a plain memory map of that dataset, read post by post; all
files are in the page cache. A changed post is measured by what is written beside what was there. A million rows take
9 GB of disk at most. Writes bench/results/store.json.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from bench.store_parts import DIM, N_OBJECTS, N_READS, key_of, measure_reading, posts, timed, values
from bench.timing import memory_mb
from cache import atomic, keys, tables
from cache.packs import PackMeta, write_pack
from cache.store import Store
from schema.labels import DEFAULT_LABELS
from schema.records import Image, Post, joined

N_BUCKET_POSTS = 250  # of a bucket, as docs/sharing.md advises
WORDS = (
    *("the", "quick", "brown", "fox", "of", "Oslo", "jumps", "over"),
    *("a", "lazy", "dog", "near", "the", "old", "barn"),
)
RESULTS = Path("bench/results/store.json")


def opened(folder: Path, n_rows: int) -> dict[str, float]:
    """In this process: seconds to open the store, ms for `missing` of 10,000 keys, and the memory that it takes."""
    before = memory_mb("VmRSS")
    start = time.perf_counter()
    store = Store(folder)
    seconds = time.perf_counter() - start
    asked = [key_of(index * 7919 % (2 * n_rows)) for index in range(10_000)]  # half of them absent
    start, start_cpu = time.perf_counter(), time.process_time()
    n_missing = len(store.missing(asked))
    lookup, lookup_cpu = time.perf_counter() - start, time.process_time() - start_cpu
    return {
        "open_s": seconds,
        "missing_ms": 1000 * lookup,
        "missing_cpu_ms": 1000 * lookup_cpu,  # without what other processes take
        "n_missing": n_missing,
        "held_mb": memory_mb("VmRSS") - before,
        "process_mb": memory_mb("VmRSS"),
        "peak_mb": memory_mb("VmHWM"),
    }


def tabled(path: Path, n_posts: int) -> dict[str, float]:
    """In this process: seconds and MB to write and read the table of so many posts."""
    text, offsets = joined(WORDS)
    tags = ("O",) * len(WORDS)
    image = Image("a.png", "d" * 64, 100, 80, "ok", "", False)
    before, start = memory_mb("VmRSS"), time.perf_counter()
    rows = (Post(f"post-{at}", "train", WORDS, text, offsets, tags, (image,)) for at in range(n_posts))
    tables.write_posts(path, rows, DEFAULT_LABELS, {})
    figures = {"posts": n_posts, "write_s": time.perf_counter() - start, "write_peak_mb": memory_mb("VmHWM") - before}
    start = time.perf_counter()
    n_read = len(tables.read_posts(path).posts)
    figures |= {"read_s": time.perf_counter() - start, "file_mb": path.stat().st_size / 1e6, "n_read": n_read}
    return figures | {"peak_mb": memory_mb("VmHWM")}


def in_fresh_process(part: str, path: Path, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.store", "--part", part, "--folder", str(path), "--rows", str(count)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_store(folder: Path, n_rows: int) -> dict[str, float]:
    """Put, open, missing and get."""
    start = time.perf_counter()
    with Store(folder, producer={"name": "bench"}) as store:
        for at in range(0, n_rows, 1000):
            rows = values(at, 1000)
            store.put({key_of(at + index): row for index, row in enumerate(rows)})
    figures = {"rows": n_rows, "put_per_s": n_rows / (time.perf_counter() - start)}
    figures["mb"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    figures |= in_fresh_process("opened", folder, n_rows)
    order = np.random.default_rng(1).integers(0, n_rows, min(N_READS, n_rows)).tolist()
    asked = [key_of(index) for index in order]
    for check in ("always", "never"):
        with Store(folder, check=check) as store:  # type: ignore[arg-type]
            figures[f"get_{check}_per_s"] = len(asked) / timed(lambda store=store: store.get(asked))  # type: ignore[misc]
    return figures


def changed(folder: Path, n_posts: int) -> dict[str, float]:
    """MB written and uploaded after one post (its rows and its pack bucket) changes; runs in this process."""
    n_buckets = max(64, n_posts // N_BUCKET_POSTS)
    meta = PackMeta(DIM, "float16", n_buckets, ("a",))
    write_pack(folder, meta, posts(n_posts))
    before = {path.name: keys.digest_file(path) for path in folder.iterdir()}
    start = time.perf_counter()
    write_pack(folder, meta, posts(n_posts, changed=n_posts // 2))
    again_s = time.perf_counter() - start
    others = [path for path in folder.iterdir() if keys.digest_file(path) != before[path.name]]
    with Store(folder.with_name(f"{folder.name}-store")) as store:
        store.put({key_of(at): row for at, row in enumerate(values(0, N_OBJECTS))})
    shards = (folder.with_name(f"{folder.name}-store")).rglob("shards/*.h5")
    return {
        "posts": n_posts,
        "buckets": n_buckets,
        "rewrite_s": again_s,
        "peak_mb": memory_mb("VmHWM"),
        "pack_mb": sum(path.stat().st_size for path in folder.iterdir()) / 1e6,
        "changed_files": len(others),
        "uploaded_mb": sum(path.stat().st_size for path in others) / 1e6,
        "stored_mb": sum(path.stat().st_size for path in shards) / 1e6,
    }


def show(rows: list[dict[str, float]]) -> None:
    """A table, one column a measurement."""
    for name in rows[0]:
        click.echo(f"{name:>20} " + " ".join(f"{row[name]:>12,.2f}".removesuffix(".00").rjust(12) for row in rows))
    click.echo("")


PARTS = {"opened": opened, "tabled": tabled, "changed": changed}  # measured in a process of their own


@click.command(help=__doc__)
@click.option("--rows", default="10000,100000,1000000", help="Rows of the store, one run each.")
@click.option(
    "--posts", "post_counts", default="2000,100000", help="Posts of tables, and of packs with one changed post."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to write (some GB); else a temporary folder.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--part", type=click.Choice(list(PARTS)), hidden=True)
def main(rows: str, post_counts: str, folder: Path | None, out: Path, part: str | None) -> None:
    if part and folder:
        click.echo(json.dumps(PARTS[part](folder, int(rows))))
        return
    base = Path(tempfile.mkdtemp(dir=folder))
    figures: dict[str, list[dict[str, float]]] = {"store": [], "reading": [], "change": [], "tables": []}
    try:
        for count in map(int, rows.split(",")):
            figures["store"].append(measure_store(base / "store", count))
            shutil.rmtree(base / "store")
            (base / "read").mkdir()
            figures["reading"].append(measure_reading(base / "read", count // N_OBJECTS))
            shutil.rmtree(base / "read")
        for count in map(int, post_counts.split(",")):
            figures["change"].append(in_fresh_process("changed", base / "change", count))
            shutil.rmtree(base / "change")
            shutil.rmtree(base / "change-store")
            figures["tables"].append(in_fresh_process("tabled", base / "posts.parquet", count))
    finally:
        shutil.rmtree(base)
    for measured in figures.values():
        show(measured)
    atomic.write_json(out, figures)


if __name__ == "__main__":
    main()

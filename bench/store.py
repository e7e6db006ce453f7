"""The store and packs at size, against a plain memory map and per-row h5py in the same run.

    python -m bench.store --rows 10000,100000,1000000 --folder /tmp/bench

Rows are synthetic, 2048 x float16 (4 KB). Opening and memory are measured in a fresh process each. "Memory map" is one
array file read by numpy, "h5py" one contiguous dataset read row by row; all files are in the page cache. A changed post
is measured by what is written beside what was there. Writes bench/results/store.json.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np

from cache import atomic, keys
from cache.packs import Objects, Pack, PackMeta, write_pack
from cache.store import Store
from schema.records import Box, Region, Span

DIM = 2048  # floats: ResNet-152
N_OBJECTS = 8  # of a post: an image, four general words, three phrases
N_READS = 20_000  # rows of a measured read
RESULTS = Path("bench/results/store.json")


def key_of(index: int) -> str:
    return keys.digest_bytes(index.to_bytes(8, "little"))


def values(start: int, count: int) -> np.ndarray:
    """Rows [count, 2048] float16 that differ: a fixed noise, its first float the row's number."""
    noise = np.random.default_rng(0).standard_normal((1, DIM)).astype(np.float16)
    rows = np.repeat(noise, count, axis=0)
    rows[:, :4] = np.arange(start, start + count)[:, None] % np.array([7, 11, 13, 2039])
    return rows


def timed(work: Callable[[], Any], n_times: int = 3) -> float:
    """Seconds, the best of some times: what others do on the machine only ever adds."""
    best = float("inf")
    for _ in range(n_times):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def memory_mb(what: str) -> float:
    """VmRSS (held now) or VmHWM (at most so far) of this process."""
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(f"{what}:")]
    return int(line.split()[1]) / 1024


def opened(folder: Path, n_rows: int) -> dict[str, float]:
    """In this process: seconds to open the store, ms for `missing` of 10,000 keys, and MB that it holds."""
    before = memory_mb("VmRSS")
    start = time.perf_counter()
    store = Store.open(folder)
    seconds = time.perf_counter() - start
    asked = [key_of(index * 7919 % (2 * n_rows)) for index in range(10_000)]  # half of them absent
    start, start_cpu = time.perf_counter(), time.process_time()
    n_missing = len(store.missing(asked))
    lookup, lookup_cpu = time.perf_counter() - start, time.process_time() - start_cpu
    return {
        "open_s": seconds,
        "missing_ms": 1000 * lookup,
        "missing_cpu_ms": 1000 * lookup_cpu,  # what a machine with nothing else to do would take
        "n_missing": n_missing,
        "held_mb": memory_mb("VmRSS") - before,
        "process_mb": memory_mb("VmRSS"),
        "peak_mb": memory_mb("VmHWM"),
    }


def in_fresh_process(folder: Path, n_rows: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.store", "--opened", str(folder), "--rows", str(n_rows)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_store(folder: Path, n_rows: int) -> dict[str, float]:
    """Put, open, missing and get."""
    start = time.perf_counter()
    with Store.open(folder, producer={"name": "bench"}) as store:
        for at in range(0, n_rows, 1000):
            rows = values(at, 1000)
            store.put({key_of(at + index): row for index, row in enumerate(rows)})
    found = {"rows": n_rows, "put_per_s": n_rows / (time.perf_counter() - start)}
    found["mb"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    found |= in_fresh_process(folder, n_rows)
    order = np.random.default_rng(1).integers(0, n_rows, min(N_READS, n_rows)).tolist()
    asked = [key_of(index) for index in order]
    for check in ("always", "never"):
        with Store.open(folder, check=check) as store:  # type: ignore[arg-type]
            found[f"get_{check}_per_s"] = len(asked) / timed(lambda store=store: store.get(asked))  # type: ignore[misc]
    return found


def regions() -> tuple[Region, ...]:
    box = Box(0, 0, 10, 10)
    general = [Region("general", f"word {at}", None, box, 0.5) for at in range(4)]
    phrases = [Region("phrase", f"phrase {at}", Span(at, at + 1), box, 0.5) for at in range(N_OBJECTS - 5)]
    return (Region("image", "", None, box, 1.0), *general, *phrases)


def posts(n_posts: int, changed: int | None = None) -> Iterator[tuple[str, Objects]]:
    """Posts of 8 objects; `changed` has other features."""
    shared = regions()
    for at in range(n_posts):
        features = values(at * N_OBJECTS, N_OBJECTS)
        yield f"post-{at}", Objects(features + np.float16(at == changed), shared)


def measure_reading(folder: Path, n_posts: int) -> dict[str, float]:
    """Posts a second, in random order, copied into a batch: pack, memory map, h5py row by row."""
    meta = PackMeta(DIM, "float16", 64, ("a",))
    start = time.perf_counter()
    write_pack(folder / "pack", meta, posts(n_posts))
    found = {"posts": n_posts, "write_per_s": n_posts / (time.perf_counter() - start)}
    plain = np.lib.format.open_memmap(folder / "plain.npy", "w+", np.float16, (n_posts * N_OBJECTS, DIM))
    with h5py.File(folder / "plain.h5", "w") as file:
        rows = file.create_dataset("features", (n_posts * N_OBJECTS, DIM), "f2")
        for at, (_, objects) in enumerate(posts(n_posts)):
            plain[at * N_OBJECTS : (at + 1) * N_OBJECTS] = objects.features
            rows[at * N_OBJECTS : (at + 1) * N_OBJECTS] = objects.features
    plain.flush()
    order = np.random.default_rng(2).integers(0, n_posts, N_READS // N_OBJECTS).tolist()
    batch, names = np.empty((N_OBJECTS, DIM), np.float16), [f"post-{at}" for at in order]
    pack, mapped = Pack.open(folder / "pack"), np.asarray(np.load(folder / "plain.npy", mmap_mode="r"))

    def from_pack() -> None:
        for name in names:
            batch[:] = pack.read(name).features

    def from_map() -> None:
        for at in order:
            batch[:] = mapped[at * N_OBJECTS : (at + 1) * N_OBJECTS]

    def from_h5py() -> None:
        with h5py.File(folder / "plain.h5") as file:
            rows = file["features"]
            for at in order:
                for row in range(N_OBJECTS):
                    batch[row] = rows[at * N_OBJECTS + row]

    for name, work in (("pack", from_pack), ("map", from_map), ("h5py", from_h5py)):
        work()  # into the page cache
        found[f"{name}_per_s"] = len(order) / timed(work, 7)
    found |= {"pack_to_map": found["pack_per_s"] / found["map_per_s"]}
    return found | {"pack_to_h5py": found["pack_per_s"] / found["h5py_per_s"]}


def measure_change(folder: Path, n_posts: int, n_buckets: int) -> dict[str, float]:
    """MB written and uploaded after one changed post: its rows go to the store, one bucket of the pack is another."""
    meta = PackMeta(DIM, "float16", n_buckets, ("a",))
    write_pack(folder, meta, posts(n_posts))
    before = {path.name: keys.digest_file(path) for path in folder.iterdir()}
    write_pack(folder, meta, posts(n_posts, changed=n_posts // 2))
    changed = [path for path in folder.iterdir() if keys.digest_file(path) != before[path.name]]
    with Store.open(folder.with_name(f"{folder.name}-store")) as store:
        store.put({key_of(at): row for at, row in enumerate(values(0, N_OBJECTS))})
    shards = (folder.with_name(f"{folder.name}-store")).rglob("shards/*.h5")
    return {
        "posts": n_posts,
        "buckets": n_buckets,
        "pack_mb": sum(path.stat().st_size for path in folder.iterdir()) / 1e6,
        "changed_files": len(changed),
        "uploaded_mb": sum(path.stat().st_size for path in changed) / 1e6,
        "stored_mb": sum(path.stat().st_size for path in shards) / 1e6,
    }


def show(rows: list[dict[str, float]]) -> None:
    """A table, one column a measurement."""
    for name in rows[0]:
        click.echo(f"{name:>20} " + " ".join(f"{row[name]:>12,.2f}".removesuffix(".00").rjust(12) for row in rows))
    click.echo("")


@click.command(help=__doc__)
@click.option("--rows", default="10000,100000,1000000", help="Rows of the store, one run each.")
@click.option("--posts", "post_counts", default="2000,100000", help="Posts of the packs with one changed post.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to write (some GB); else a temporary folder.")
@click.option("--opened", "only_open", type=click.Path(path_type=Path), hidden=True)
def main(rows: str, post_counts: str, folder: Path | None, only_open: Path | None) -> None:
    if only_open is not None:
        click.echo(json.dumps(opened(only_open, int(rows))))
        return
    base = Path(tempfile.mkdtemp(dir=folder))
    found: dict[str, list[dict[str, float]]] = {"store": [], "reading": [], "change": []}
    try:
        for count in map(int, rows.split(",")):
            found["store"].append(measure_store(base / "store", count))
            shutil.rmtree(base / "store")
            (base / "read").mkdir()
            found["reading"].append(measure_reading(base / "read", count // N_OBJECTS))
            shutil.rmtree(base / "read")
        for count in map(int, post_counts.split(",")):
            found["change"].append(measure_change(base / "change", count, 64))
            shutil.rmtree(base / "change")
            shutil.rmtree(base / "change-store")
    finally:
        shutil.rmtree(base)
    for part in found.values():
        show(part)
    atomic.write_json(RESULTS, found)


if __name__ == "__main__":
    main()

"""Parts of the store's bench: synthetic rows and posts, time and memory, and packs against other ways to read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cache import hdf5, keys
from cache.packs import Objects, Pack, PackMeta, write_pack
from schema.records import Box, Region, Span

DIM = 2048  # floats: ResNet-152
N_OBJECTS = 8  # of a post: an image, four general words, three phrases
N_READS = 20_000  # rows of a measured read


def key_of(index: int) -> str:
    return keys.digest_bytes(index.to_bytes(8, "little"))


def values(start: int, count: int) -> np.ndarray:
    """Rows [count, 2048] float16 that differ: a fixed noise, its first float the row's number."""
    noise = np.random.default_rng(0).standard_normal((1, DIM)).astype(np.float16)
    rows = np.repeat(noise, count, axis=0)
    rows[:, :4] = np.arange(start, start + count)[:, None] % np.array([7, 11, 13, 2039])
    return rows


def timed(work: Callable[[], Any], n_times: int = 3) -> float:
    """Seconds, the shortest of some times: other work on the machine can only add."""
    best = float("inf")
    for _ in range(n_times):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


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
    figures = {"posts": n_posts, "write_per_s": n_posts / (time.perf_counter() - start)}
    plain = folder / "plain.h5"
    with h5py.File(plain, "w") as file:
        rows = file.create_dataset("features", (n_posts * N_OBJECTS, DIM), "f2")
        file.attrs[hdf5.NOTE] = np.bytes_(b"{}")
        for at, (_, objects) in enumerate(posts(n_posts)):
            rows[at * N_OBJECTS : (at + 1) * N_OBJECTS] = objects.features
    order = np.random.default_rng(2).integers(0, n_posts, N_READS // N_OBJECTS).tolist()
    for name, work in readers(folder / "pack", plain, order).items():
        work()  # into the page cache
        figures[f"{name}_per_s"] = len(order) / timed(work, 7)
    figures |= {"pack_to_map": figures["pack_per_s"] / figures["map_per_s"]}
    return figures | {"pack_to_h5py": figures["pack_per_s"] / figures["h5py_per_s"]}


def readers(packed: Path, plain: Path, order: Sequence[int]) -> dict[str, Callable[[], np.ndarray]]:
    """Three ways to read the same posts into a batch [8, 2048], which they return as the last post left it."""
    batch, names = np.empty((N_OBJECTS, DIM), np.float16), [f"post-{at}" for at in order]
    pack, place = Pack(packed), hdf5.extents(plain)[1]["features"]
    mapped = np.asarray(np.memmap(plain, place.dtype, "r", place.offset, place.shape))

    def from_pack() -> np.ndarray:
        for name in names:
            batch[:] = pack.read(name).features
        return batch

    def from_map() -> np.ndarray:
        for at in order:
            batch[:] = mapped[at * N_OBJECTS : (at + 1) * N_OBJECTS]
        return batch

    def from_h5py() -> np.ndarray:
        with h5py.File(plain) as file:
            rows = file["features"]
            for at in order:
                for row in range(N_OBJECTS):
                    batch[row] = rows[at * N_OBJECTS + row]
        return batch

    return {"pack": from_pack, "map": from_map, "h5py": from_h5py}

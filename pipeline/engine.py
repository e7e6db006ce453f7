"""Decide, compute, store: `run` computes the rows of a plan that a store lacks, here or on a Ray cluster."""

import contextlib
import logging
import operator
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import astuple, dataclass, replace
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

import numpy as np

from schema.errors import DataError, MissingKeys

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Detail = TypeVar("Detail")
Result = TypeVar("Result")
Engine = Literal["local", "ray"]  # where a stage's missing rows are computed: in this process, or on a cluster
FLUSH_S = 5.0  # seconds of work that a killed run may lose; each flush writes one shard
CHUNK: dict[Engine, int] = {"local": 8192, "ray": 131_072}  # posts planned together; Ray loads a part for each chunk
N_PUT = 64  # rows put at once: a put asks the store which of them it has
N_PREFETCH = 2  # results per worker thread that may wait for their consumer
SMALL_BATCHES = (1, 4, 8)  # shapes for short batches of rows that are not stored: one post has about eight crops
_pads_fully = ContextVar("pads_fully", default=True)
Progress = Callable[[int, int], None]  # called with the numbers of finished rows (stored ones included) and of all


def silent(done: int, total: int, /) -> None: ...


class Readable(Protocol):
    def get(self, keys: Sequence[str], /) -> list[Any]: ...


class Rows(Readable, Protocol):
    """What a stage needs of a store; `cache.store.Store` and `Memory` implement it."""

    def missing(self, keys: Sequence[str], /) -> list[str]: ...
    def put(self, rows: dict[str, Any], /) -> None: ...
    def flush(self) -> None: ...


class Memory:
    def __init__(self) -> None:
        self._rows: dict[str, Any] = {}

    def missing(self, keys: Sequence[str], /) -> list[str]:
        return [key for key in dict.fromkeys(keys) if key not in self._rows]

    def put(self, rows: dict[str, Any], /) -> None:
        self._rows |= {key: row for key, row in rows.items() if key not in self._rows}

    def flush(self) -> None: ...

    def get(self, keys: Sequence[str], /) -> list[Any]:
        if missing := self.missing(keys):
            raise MissingKeys(missing, where="memory")
        return [self._rows[key] for key in keys]


@dataclass(frozen=True, slots=True)
class Plan(Generic[Item, Detail]):
    """Which rows the posts of a stage need, and what each row is computed from."""

    stage: str
    items: dict[str, Item]  # by key, each distinct row once
    keys: dict[str, list[str]]  # by post id, in the order in which `assemble` reads them
    details: dict[str, Detail]  # by post id, what `assemble` needs besides the rows

    @classmethod
    def of(cls, stage: str, posts: Iterable[tuple[str, Sequence[tuple[str, Item]], Detail]]) -> Self:
        """A plan from (post id, its keys and items, its detail)."""
        plan = cls(stage, {}, {}, {})
        for post_id, rows, detail in posts:
            plan.keys[post_id], plan.details[post_id] = [key for key, _ in rows], detail
            plan.items.update((key, item) for key, item in rows if key not in plan.items)
        return plan

    @property
    def n_cut(self) -> int:
        """Phrases beyond a cap, where details count them."""
        return sum(getattr(detail, "n_cut", 0) for detail in self.details.values())

    def complete(self, rows: Rows) -> set[str]:
        missing = set(rows.missing(list(self.items)))
        return {post_id for post_id, keys in self.keys.items() if missing.isdisjoint(keys)}

    def only(self, post_ids: Iterable[str]) -> Self:
        keys = {post_id: self.keys[post_id] for post_id in post_ids if post_id in self.keys}
        items = {key: self.items[key] for listed in keys.values() for key in listed}
        return replace(self, items=items, keys=keys, details={post_id: self.details[post_id] for post_id in keys})

    def read(self, rows: Readable) -> Iterator[tuple[str, Detail, list[Any]]]:
        values = dict(zip(self.items, rows.get(list(self.items)), strict=True))
        for post_id, keys in self.keys.items():
            yield post_id, self.details[post_id], [values[key] for key in keys]


class Part(Protocol):
    """A parser, grounder or backbone."""

    @property
    def identity(self) -> Mapping[str, str]: ...  # everything that its rows depend on


Compute = Callable[[dict[str, Any], Any], Iterable[tuple[str, Any]]]  # (items by key, part) -> (key, row), any order


class Cluster(Protocol):
    """Other processes that compute rows and put them into the store; `ray_engine.RayCluster` is one."""

    def compute(
        self, stage: str, missing: dict[str, Any], identity: Mapping[str, str], compute: Compute, store: Any
    ) -> Generator[list[str], None, None]: ...


@dataclass(frozen=True, slots=True)
class Tally:
    stage: str
    n_rows: int  # distinct
    n_computed: int
    n_cut: int = 0  # phrases beyond a cap
    n_too_long: int = 0  # boxes of texts that are longer than the grounder reads

    def line(self, dataset: str) -> str:
        n_stored = self.n_rows - self.n_computed
        line = f"{self.stage} {dataset}: {self.n_rows} rows, {self.n_computed} computed, {n_stored} from store"
        line += f"; {self.n_cut} phrases cut" if self.n_cut else ""
        return line + (f"; {self.n_too_long} boxes of texts that the grounder truncates" if self.n_too_long else "")

    def __add__(self, other: Self) -> Self:
        return type(self)(self.stage, *map(operator.add, astuple(self)[1:], astuple(other)[1:]))


@dataclass(frozen=True)
class StoredRows:
    """The rows of a plan that has run. A row that was lost since (its shard is damaged or deleted) is recomputed."""

    rows: Rows
    recompute: Callable[[], Tally]

    def get(self, keys: Sequence[str], /) -> list[Any]:
        """The rows of keys, in order. Raises MissingKeys if recomputing does not help."""
        try:
            return self.rows.get(keys)
        except MissingKeys as lost:
            tally = self.recompute()
            log.warning("%s: %s; %d row(s) computed again", tally.stage, lost, tally.n_computed)
            return self.rows.get(keys)


def run(
    plan: Plan[Any, Any],
    part: Part,
    compute: Compute,
    store: Rows | None = None,
    *,
    cluster: Cluster | None = None,
    progress: Progress = silent,
) -> tuple[StoredRows, Tally]:
    """Compute the rows that the store lacks, here or on `cluster`, and store them; returns all rows, read on request.

    `compute` is not called if no row is missing, so that lazy parts are not loaded. DataError if it leaves a key out.
    """
    rows = store if store is not None else Memory()

    def fill(progress: Progress = silent) -> Tally:
        absent, total = rows.missing(list(plan.items)), len(plan.items)
        progress(total - len(absent), total)
        if not absent:
            return Tally(plan.stage, total, 0, plan.n_cut)
        missing, left = {key: plan.items[key] for key in absent}, set(absent)
        if cluster:
            stored = cluster.compute(plan.stage, missing, part.identity, compute, rows)
        else:
            stored = put_rows(rows, compute(missing, part))
        with contextlib.closing(stored):
            for keys in stored:
                left.difference_update(keys)
                progress(total - len(left), total)
        if left:
            raise DataError(f"{plan.stage}: {len(left)} row(s) were not computed", found=", ".join(sorted(left)[:3]))
        return Tally(plan.stage, total, len(absent), plan.n_cut)

    token = _pads_fully.set(store is not None)
    try:
        return StoredRows(rows, fill), fill(progress)
    finally:
        _pads_fully.reset(token)


@dataclass
class ChunkedRun(Generic[Item, Detail]):
    """Runs the plans of a stage's chunks of posts; progress and tally count a row once that several chunks need.

    Until all `n_posts` are planned, the number of all rows that `progress` gets is estimated from those so far.
    """

    plans: Iterable[Plan[Item, Detail]]
    n_posts: int
    part: Part
    compute: Compute
    store: Rows
    cluster: Cluster | None = None
    progress: Progress = silent
    tally: Tally = Tally("", 0, 0)
    _n_planned = 0  # posts
    _seen = np.zeros(0, np.uint64)  # sorted, the first 64 bits of each key so far

    def __iter__(self) -> Iterator[tuple[Plan[Item, Detail], StoredRows]]:
        """Each plan with its rows, once they are stored."""
        for plan in self.plans:
            progress = self._chunk_progress(plan)
            rows, tally = run(plan, self.part, self.compute, self.store, cluster=self.cluster, progress=progress)
            self.tally = replace(tally + self.tally, n_rows=len(self._seen))
            yield plan, rows

    def _chunk_progress(self, plan: Plan[Item, Detail]) -> Progress:
        """The progress of a chunk as that of all."""
        prefixes = np.sort(np.array([int(key[:16], 16) for key in plan.items], np.uint64))
        new, n_before = prefixes[~np.isin(prefixes, self._seen, assume_unique=True)], len(self._seen)
        self._seen = np.insert(self._seen, np.searchsorted(self._seen, new), new)
        self._n_planned += len(plan.keys)
        total = len(self._seen) * self.n_posts // max(self._n_planned, 1)
        return lambda done, n: self.progress(n_before + max(done - len(prefixes) + len(new), 0), total)


def batch_shape(n_rows: int, full: int) -> int:
    """The rows to which a batch is padded: a stored row's last bits depend on it, so then always `full`."""
    return full if _pads_fully.get() else min(shape for shape in (*SMALL_BATCHES, full) if shape >= n_rows)


def put_rows(store: Rows, rows: Iterable[tuple[str, Any]]) -> Generator[list[str], None, None]:
    """Put (key, row) pairs as they come, durable within FLUSH_S; yields the keys that were put."""
    waiting: dict[str, Any] = {}
    flushed = time.monotonic()
    try:
        for key, row in rows:
            waiting[key] = row
            is_late = time.monotonic() - flushed > FLUSH_S
            if is_late or len(waiting) >= N_PUT:
                put, waiting = waiting, {}
                store.put(put)
                yield list(put)
            if is_late:
                store.flush()
                flushed = time.monotonic()
    finally:
        store.put(waiting)
        store.flush()
    yield list(waiting)


def in_batches(
    items: dict[str, Item], compute: Callable[[list[Item]], list[Any]], batch: int
) -> Iterator[tuple[str, Any]]:
    """(key, row) of every item, computed in lists of at most `batch` items."""
    keys = list(items)
    for start in range(0, len(keys), batch):
        part = keys[start : start + batch]
        yield from list(zip(part, compute([items[key] for key in part]), strict=True))  # no row under another's key


def prefetch(work: Callable[[Item], Result], items: Iterable[Item], n_workers: int) -> Iterator[Result]:
    """`work` of every item, in order, computed ahead by threads (0: on request); at most N_PREFETCH results each."""
    if n_workers == 0:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_workers, thread_name_prefix="prefetch") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > N_PREFETCH * n_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

"""Decide, compute, store: compute only the rows that are missing, keep them as they come; a killed run resumes."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from schema.errors import DataError, MissingKeys

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Engine = Literal["local", "ray"]  # where a stage's missing rows are computed: here, or by a cluster's actors
FLUSH_S = 5.0  # seconds of work that a killed run may lose; each flush writes one shard
N_PUT = 64  # rows put together: a put asks the store what it has
N_AHEAD = 2  # results a worker that may wait for whoever takes them


class Progress(Protocol):
    """Called with the rows done so far, those from the store included, and all rows."""

    def __call__(self, done: int, total: int, /) -> None: ...


def silent(done: int, total: int, /) -> None:
    """The progress of a caller that shows none."""


class Rows(Protocol):
    """What a stage asks of a store; `cache.store.Store` and `Memory` have it."""

    def missing(self, keys: Sequence[str], /) -> list[str]: ...
    def put(self, rows: dict[str, Any], /) -> None: ...
    def flush(self) -> None: ...
    def get(self, keys: Sequence[str], /) -> list[Any]: ...


class Memory:
    """Rows of a run without a store: they live as long as this object."""

    def __init__(self) -> None:
        self._rows: dict[str, Any] = {}

    def missing(self, keys: Sequence[str], /) -> list[str]:
        return [key for key in dict.fromkeys(keys) if key not in self._rows]

    def put(self, rows: dict[str, Any], /) -> None:
        for key, value in rows.items():
            self._rows.setdefault(key, value)

    def flush(self) -> None:
        """Nothing to make durable."""

    def get(self, keys: Sequence[str], /) -> list[Any]:
        if lost := self.missing(keys):
            raise MissingKeys(lost, where="memory")
        return [self._rows[key] for key in keys]


class Elsewhere(ABC):
    """`Rows` whose missing ones other processes compute and put, so that nothing is computed here."""

    @abstractmethod
    def fill(self, missing: dict[str, Any], /) -> Iterator[Sequence[str]]:
        """Have the missing items computed; yields their keys as the rows come into the store."""

    @abstractmethod
    def missing(self, keys: Sequence[str], /) -> list[str]: ...
    @abstractmethod
    def put(self, rows: dict[str, Any], /) -> None: ...
    @abstractmethod
    def flush(self) -> None: ...
    @abstractmethod
    def get(self, keys: Sequence[str], /) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class Tally:
    """How many distinct rows a stage needed, how many of them it computed, how many phrases a cap left out, and how
    many texts are longer than the grounder reads."""

    stage: str
    n_rows: int
    n_computed: int
    n_cut: int = 0
    n_too_long: int = 0

    def line(self, dataset: str) -> str:
        counts = f"{self.n_rows} rows, {self.n_computed} computed, {self.n_rows - self.n_computed} from store"
        cut = f"; {self.n_cut} phrases cut" if self.n_cut else ""
        too_long = f"; {self.n_too_long} boxes of texts that the grounder reads in part" if self.n_too_long else ""
        return f"{self.stage} {dataset}: {counts}{cut}{too_long}"

    def __add__(self, other: Tally) -> Tally:
        mine, theirs = astuple(self), astuple(other)
        return Tally(self.stage, *(one + more for one, more in zip(mine[1:], theirs[1:], strict=True)))


def fill(
    store: Rows | None,
    wanted: Sequence[tuple[str, Item]],
    compute: Callable[[list[Item]], list[Any]],
    *,
    batch: int,
    stage: str,
    progress: Progress = silent,
) -> tuple[dict[str, Any], Tally]:
    """Every wanted key with its value, from the store or computed in lists of at most `batch` items.

    A key that is wanted twice is computed once. `compute` answers one value an item, in order; values must not depend
    on which items come together. For results that do not fit in memory use `stream`.
    """
    rows = store if store is not None else Memory()
    batches = partial(in_batches, compute=compute, batch=batch)
    items: dict[str, Item] = {}
    for key, item in wanted:
        items.setdefault(key, item)
    tally = stream(rows, items, batches, stage=stage, progress=progress)
    values = read(rows, list(items), lambda: stream(rows, items, batches, stage=stage))
    return dict(zip(items, values, strict=True)), tally


def in_batches(
    missing: dict[str, Item], compute: Callable[[list[Item]], list[Any]], batch: int
) -> Iterator[tuple[str, Any]]:
    """(key, value) of every missing item, computed in lists of at most `batch` items."""
    keys = list(missing)
    for start in range(0, len(keys), batch):
        part = keys[start : start + batch]
        values = compute([missing[key] for key in part])
        yield from list(zip(part, values, strict=True))  # all or none: no value lands under another's key


def stream(
    store: Rows,
    wanted: Mapping[str, Item],
    compute: Callable[[dict[str, Item]], Iterable[tuple[str, Any]]],
    *,
    stage: str,
    progress: Progress = silent,
) -> Tally:
    """Leave every wanted row in the store, where the caller reads it back as it needs it.

    `compute` gets the missing items and yields `(key, value)` in any order; each value is put at once and durable
    within FLUSH_S; a store that is `Elsewhere` has them computed there instead. What was computed before an error or an
    interrupt is kept. Raises DataError when a key is left out.
    """
    absent = store.missing(list(wanted))
    done, total = len(wanted) - len(absent), len(wanted)
    progress(done, total)
    if not absent:
        return Tally(stage, total, 0)
    left, fresh, flushed = set(absent), {}, time.monotonic()
    if isinstance(store, Elsewhere):
        for keys in store.fill({key: wanted[key] for key in absent}):
            left.difference_update(keys)
            progress(total - len(left), total)
        return _checked(stage, total, absent, left)
    try:
        for key, value in compute({key: wanted[key] for key in absent}):
            fresh[key] = value
            left.discard(key)
            late = time.monotonic() - flushed > FLUSH_S
            if late or len(fresh) >= N_PUT:
                store.put(fresh)
                fresh = {}
                progress(total - len(left), total)
            if late:
                store.flush()
                flushed = time.monotonic()
    finally:
        store.put(fresh)
        store.flush()
        progress(total - len(left), total)
    return _checked(stage, total, absent, left)


def _checked(stage: str, total: int, absent: Sequence[str], left: set[str]) -> Tally:
    if left:
        raise DataError(f"{stage}: {len(left)} row(s) were not computed", found=", ".join(sorted(left)[:3]))
    return Tally(stage, total, len(absent))


def read(store: Rows, keys: Sequence[str], again: Callable[[], Tally]) -> list[Any]:
    """The values of keys that were there a moment ago.

    What a damaged shard takes with it when it is read, or somebody dropped meanwhile, is computed by `again`, with a
    warning. Raises MissingKeys where that does not help.
    """
    try:
        return store.get(keys)
    except MissingKeys as lost:
        tally = again()
        log.warning("%s: %s; %d row(s) computed again", tally.stage, lost, tally.n_computed)
        return store.get(keys)


def ahead(work: Callable[[Item], Result], items: Iterable[Item], n_workers: int) -> Iterator[Result]:
    """`work` of every item, in order, computed by threads ahead of whoever takes it; 0 workers: when it is taken.

    At most N_AHEAD results a worker wait, so memory stays bounded however slow the taker is. The first error ends it.
    """
    if n_workers == 0:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_workers, thread_name_prefix="ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > N_AHEAD * n_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

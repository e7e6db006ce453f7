"""`engine: ray`: the actors of a Ray cluster compute a stage's missing rows and put them into the shared store.

Each actor opens its own part and opens the store by its path, which every machine must see. A task is a list of
missing items. Its rows are put under their keys, so a task that runs twice, after its machine was lost, changes
nothing. The caller writes tables and packs from the store, as with `engine: local`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from cache.store import Store
from pipeline.engine import Compute, Engine, Part, put_rows
from schema.errors import ConfigError, FmitError

Job = tuple[str, Any]  # key and item
MAX_ACTOR_CPUS = 8  # a process gains little from more: start more actors instead


class WorkerError(FmitError):
    """A worker of the cluster could not compute its rows; those that others computed are in the store."""


class Placement(Protocol):
    """The part of a stage's configuration that says where rows are computed."""

    @property
    def engine(self) -> Engine: ...
    @property
    def actors(self) -> int: ...


def cluster_of(
    config: Placement, open_part: Callable[[], Part], group: Callable[[Any], str], n_items: int
) -> RayCluster | None:
    """The cluster of `engine: ray`, None for `engine: local`. Raises ConfigError where Ray is not installed."""
    return RayCluster(open_part, group, n_items, config.actors) if config.engine == "ray" else None


class RayCluster:
    """A Ray cluster at `$RAY_ADDRESS`, else one on this machine.

    `open_part` runs in each actor. Items with equal `group` go into one task, of `n_items` or a few more. `actors`: 0
    for as many as fit.
    """

    def __init__(self, open_part: Callable[[], Part], group: Callable[[Any], str], n_items: int, actors: int) -> None:
        self._ray = _import_ray()
        self._open_part, self._group, self._n_items, self._actors = open_part, group, n_items, actors

    def compute(
        self, stage: str, missing: dict[str, Any], identity: Mapping[str, str], compute: Compute, store: Store
    ) -> Generator[list[str], None, None]:
        """Yield the keys of each task once its rows are in the store. Raises WorkerError."""
        tasks = [pa.table({"jobs": [pickle.dumps(task)]}) for task in cut(missing.items(), self._group, self._n_items)]
        with _connected(self._ray):
            try:
                dataset = self._dataset(tasks, (self._open_part, dict(identity), compute, store))
                for row in dataset.iter_rows():
                    yield stored_keys(stage, row, store)
            except self._ray.exceptions.RayError as error:
                raise failed(stage, _reason(error)) from None

    def _dataset(self, tasks: Sequence[pa.Table], arguments: tuple[Any, ...]) -> Any:
        """One block per task, in any order; Ray restarts a lost actor and its task."""
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.print_on_execution_start = False, False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        resources = self._ray.cluster_resources()
        n_actors = min(self._actors or max_actors(resources), len(tasks))
        return ray.data.from_arrow(list(tasks)).map_batches(
            Worker,
            fn_constructor_args=arguments,
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=n_actors),
            **actor_resources(resources, n_actors),
        )


class Worker:
    """What an actor runs: it opens its part once, then computes task after task into its own store."""

    def __init__(
        self, open_part: Callable[[], Part], identity: Mapping[str, str], compute: Compute, store: Store
    ) -> None:
        self._compute, self._store, self._error = compute, store, ""
        try:
            self._part = open_part()
        except FmitError as error:  # reported with each task: Ray restarts an actor that raises here for ever
            self._error = str(error)
            return
        own = dict(self._part.identity)
        if own != dict(identity):
            self._error = f"this machine has other parts: {own} instead of {dict(identity)}"

    def __call__(self, tasks: pa.Table) -> pa.Table:
        """The keys of each task's rows, all in the store, or the error."""
        done = [self._run(dict(pickle.loads(task))) for task in tasks["jobs"].to_pylist()]
        return pa.table({"keys": [pickle.dumps(keys) for keys, _ in done], "error": [error for _, error in done]})

    def _run(self, items: dict[str, Any]) -> tuple[list[str], str]:
        if self._error:
            return [], self._error
        missing = {key: items[key] for key in self._store.missing(items)}
        try:
            for _ in put_rows(self._store, self._compute(missing, self._part) if missing else ()):
                pass
        except FmitError as error:
            return [], str(error)
        return list(items), ""


def stored_keys(stage: str, row: Mapping[str, Any], store: Store) -> list[str]:
    """The keys of a worker's answer; WorkerError where it failed or put its rows into another store."""
    if row["error"]:
        raise failed(stage, row["error"])
    keys: list[str] = pickle.loads(row["keys"])
    if lost := store.missing(keys):
        raise WorkerError(
            f"{stage}: {len(lost)} row(s) that a worker put are not in the store",
            todo="set FMIT_STORE to a folder that all machines of the cluster see",
        )
    return keys


def failed(stage: str, reason: str) -> WorkerError:
    todo = "fix it and run the same command again: rows that were computed are in the store"
    return WorkerError(f"{stage}: a worker failed", found=reason, todo=todo)


def cut(jobs: Iterable[Job], group: Callable[[Any], str], n_items: int) -> Iterator[list[Job]]:
    """Tasks of at least `n_items` jobs (the last may be shorter); no group is split between two tasks."""
    groups: dict[str, list[Job]] = defaultdict(list)
    for number, (key, item) in enumerate(jobs):
        groups[group(item) or str(number)].append((key, item))
    task: list[Job] = []
    for members in groups.values():
        task += members
        if len(task) >= n_items:
            yield task
            task = []
    if task:
        yield task


def max_actors(resources: Mapping[str, float]) -> int:
    """How many actors fit on a cluster: one per GPU, else one per MAX_ACTOR_CPUS of all CPUs but one."""
    if resources.get("GPU", 0) >= 1:
        return int(resources["GPU"])
    return max(1, math.ceil((resources.get("CPU", 1) - 1) / MAX_ACTOR_CPUS))


def actor_resources(resources: Mapping[str, float], n_actors: int) -> dict[str, Any]:
    """What one actor reserves. One CPU stays free: Ray's own tasks need it, and a dataset without it hangs silently."""
    cpus = max(0.0, resources.get("CPU", 1.0) - 1) / n_actors
    cpus = float(min(math.floor(cpus), MAX_ACTOR_CPUS)) if cpus >= 1 else math.floor(cpus * 100) / 100
    gpus = min(1.0, resources.get("GPU", 0.0) / n_actors)
    return {"num_cpus": cpus, **({"num_gpus": gpus} if gpus else {})}


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports usage by default
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            "engine: ray needs Ray", found=str(error), todo="pip install 'fmit[ray]', or set engine: local"
        ) from None
    return ray


@contextlib.contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """Within: connected to `$RAY_ADDRESS`, to a cluster started for this call, or to the caller's."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise _no_cluster(error) from error
    except Exception as error:
        if type(error) is not Exception:  # Ray raises the bare class only where a node starts too slowly
            raise
        raise _no_cluster(error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _no_cluster(error: Exception) -> WorkerError:
    todo = "check RAY_ADDRESS (ray status), or unset it to use this machine only; try again on a less busy machine"
    found = str(error).strip() or type(error).__name__
    return WorkerError("no Ray cluster", found=found.splitlines()[0], todo=todo)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__

"""`engine: ray`: the actors of a Ray cluster compute a stage's missing rows and put them into the shared store.

Each actor opens its own part and the store by its path, which every machine must see. A task that runs twice, because
its machine was lost, puts the same rows under the same keys.
"""

import contextlib
import logging
import math
import os
import pickle
import re
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cache.store import Store
from pipeline.engine import Compute, Part, put_rows
from schema.errors import ConfigError, FmitError

MAX_ACTOR_CPUS = 8  # a process gains little from more: start more actors instead


class WorkerError(FmitError):
    """A worker of the cluster could not compute its rows; those that others computed are in the store."""


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster at `$RAY_ADDRESS`, else one on this machine. Raises ConfigError if Ray is not installed."""

    open_part: Callable[[], Part]  # runs in each actor
    group: Callable[[Any], str]  # items with an equal group go into one task
    n_items: int  # of a task, at least
    actors: int  # 0: as many as fit

    def __post_init__(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports usage by default
        try:
            import ray.data  # noqa: F401
        except ImportError as error:
            todo = "pip install 'fmit[ray]', or set engine: local"
            raise ConfigError("engine: ray needs Ray", found=str(error), todo=todo) from None

    def compute(
        self, stage: str, missing: dict[str, Any], identity: Mapping[str, str], compute: Compute, store: Store
    ) -> Generator[list[str], None, None]:
        """Yield the keys of each task once its rows are in the store. Raises WorkerError."""
        import ray

        tasks = [pa.table({"jobs": [pickle.dumps(task)]}) for task in cut(missing.items(), self.group, self.n_items)]
        with _connected(ray):
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars, context.print_on_execution_start = False, False
            logging.getLogger("ray.data").setLevel(logging.ERROR)
            try:
                resources = ray.cluster_resources()
                n_actors = min(self.actors or max_actors(resources), len(tasks))
                answers = ray.data.from_arrow(
                    tasks
                ).map_batches(  # in any order; Ray restarts a lost actor and its task
                    Worker,
                    fn_constructor_args=(self.open_part, dict(identity), compute, store),
                    batch_size=None,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(size=n_actors),
                    **actor_resources(resources, n_actors),
                )
                for row in answers.iter_rows():
                    yield stored_keys(stage, row, store)
            except ray.exceptions.RayError as error:
                causes = re.findall(r"^\s*([\w.]+(?:Error|Exception)\b.*)", str(error), re.M)  # without Ray's hints
                raise failed(stage, causes[-1][:300] if causes else type(error).__name__) from None


class Worker:
    """Runs in an actor: opens its part once, then computes task after task and stores the rows."""

    def __init__(
        self, open_part: Callable[[], Part], identity: Mapping[str, str], compute: Compute, store: Store
    ) -> None:
        self._compute, self._store, self._error = compute, store, ""
        try:
            self._part = open_part()
        except FmitError as error:  # reported with each task: Ray restarts an actor that raises here for ever
            self._error = str(error)
            return
        if (own := dict(self._part.identity)) != identity:
            self._error = f"this machine has different models: {own} instead of {identity}"

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
    """The keys of a worker's answer. Raises WorkerError if it failed, or if its rows are not in the store."""
    if row["error"]:
        raise failed(stage, row["error"])
    keys: list[str] = pickle.loads(row["keys"])
    if lost := store.missing(keys):
        what = f"{stage}: {len(lost)} row(s) that a worker stored are not in the store"
        raise WorkerError(what, todo="set FMIT_STORE to a folder that all machines of the cluster can access")
    return keys


def failed(stage: str, reason: str) -> WorkerError:
    todo = "fix it and run the same command again: rows that were computed are in the store"
    return WorkerError(f"{stage}: a worker failed", found=reason, todo=todo)


def cut(jobs: Iterable[tuple[str, Any]], group: Callable[[Any], str], n_items: int) -> Iterator[list[tuple[str, Any]]]:
    """Tasks of at least `n_items` jobs (the last may be shorter); no group is split between two tasks."""
    groups: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for number, (key, item) in enumerate(jobs):
        groups[group(item) or str(number)].append((key, item))
    task: list[tuple[str, Any]] = []
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
    """What one actor reserves. One CPU stays free for Ray's own tasks, without which a dataset hangs silently."""
    cpus = max(0.0, resources.get("CPU", 1.0) - 1) / n_actors
    cpus = float(min(math.floor(cpus), MAX_ACTOR_CPUS)) if cpus >= 1 else math.floor(cpus * 100) / 100
    gpus = min(1.0, resources.get("GPU", 0.0) / n_actors)
    return {"num_cpus": cpus, **({"num_gpus": gpus} if gpus else {})}


def cluster_of(
    config: Any, open_part: Callable[[], Part], group: Callable[[Any], str], n_items: int
) -> RayCluster | None:
    return RayCluster(open_part, group, n_items, config.actors) if config.engine == "ray" else None


@contextlib.contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """Connects to the caller's cluster, to `$RAY_ADDRESS`, or to a cluster started for this call."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        # Ray raises the bare class only if a node starts too slowly
        if type(error) is not Exception and not isinstance(error, OSError | RuntimeError | ValueError):
            raise
        found = (str(error).strip() or type(error).__name__).splitlines()[0]
        todo = "check RAY_ADDRESS (ray status), or unset it to use this machine only; try again on a less busy machine"
        raise WorkerError("no Ray cluster", found=found, todo=todo) from error
    try:
        yield
    finally:
        ray.shutdown()

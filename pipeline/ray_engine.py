"""`engine: ray`: a stage's missing rows are computed by the actors of a Ray cluster and put into the shared store.

Each actor builds its own parts and opens the store by its path, which every machine must see. A task is a list of
missing items; its rows are put under their keys, so a task that runs twice, after its machine was lost, changes
nothing. Tables and packs are written by the caller alone, from the store, as with `engine: local`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from cache.store import Store
from pipeline import engine
from pipeline.engine import Elsewhere, Engine, Rows
from pipeline.recipes import Recipe
from schema.errors import ConfigError, FmitError

Job = tuple[str, Any]  # key and item
MOST_ACTOR_CPUS = 8  # beyond them a process gains little: more actors do


class WorkerError(FmitError):
    """A worker of the cluster could not compute its rows; those that others computed are in the store."""


class Placed(Protocol):
    """A stage's configuration, as far as it says where rows are computed."""

    @property
    def engine(self) -> Engine: ...
    @property
    def actors(self) -> int: ...


def spread(config: Placed, store: Store, recipe: Recipe, identity: Mapping[str, str]) -> Rows:
    """The store itself, or for `engine: ray` the store with a cluster behind it that computes what is missing.

    `identity`: that of the caller's own part; workers whose part is another one refuse to work. Raises ConfigError
    where Ray is not installed.
    """
    return store if config.engine == "local" else RayRows(store, recipe, identity, config.actors)


class RayRows(Elsewhere):
    """A store whose missing rows a Ray cluster computes: `$RAY_ADDRESS`, else one of this machine's own."""

    def __init__(self, store: Store, recipe: Recipe, identity: Mapping[str, str], actors: int) -> None:
        self._ray = _import_ray()
        self._store, self._recipe, self._identity, self._actors = store, recipe, dict(identity), actors

    def missing(self, keys: Sequence[str], /) -> list[str]:
        return self._store.missing(keys)

    def put(self, rows: dict[str, Any], /) -> None:
        self._store.put(rows)

    def flush(self) -> None:
        self._store.flush()

    def get(self, keys: Sequence[str], /) -> list[Any]:
        return self._store.get(keys)

    def fill(self, missing: dict[str, Any], /) -> Iterator[Sequence[str]]:
        """Yields the keys of each task once its rows are in the store. Raises WorkerError."""
        with _cluster(self._ray):
            tasks = [pa.table({"jobs": [pickle.dumps(task)]}) for task in cut(missing.items(), self._recipe)]
            try:
                for row in self._dataset(tasks).iter_rows():
                    yield self._taken(row)
            except self._ray.exceptions.RayError as error:
                raise self._failed(_reason(error)) from None

    def _dataset(self, tasks: Sequence[pa.Table]) -> Any:
        """One block a task, in no order; a lost actor is started again and its task with it."""
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.print_on_execution_start = False, False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        resources = self._ray.cluster_resources()
        n_actors = min(self._actors or room(resources), len(tasks))
        return ray.data.from_arrow(list(tasks)).map_batches(
            Worker,
            fn_constructor_args=(self._recipe, self._identity, self._store),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=n_actors),
            **share(resources, n_actors),
        )

    def _taken(self, row: Mapping[str, Any]) -> list[str]:
        if row["error"]:
            raise self._failed(row["error"])
        keys: list[str] = pickle.loads(row["keys"])
        if lost := self._store.missing(keys):
            raise WorkerError(
                f"{self._recipe.stage}: {len(lost)} row(s) that a worker put are not in the store",
                todo="let FMIT_STORE name one folder that all machines of the cluster see",
            )
        return keys

    def _failed(self, reason: str) -> WorkerError:
        todo = "mend it and run the same command again: rows that were computed are in the store"
        return WorkerError(f"{self._recipe.stage}: a worker failed", found=reason, todo=todo)


class Worker:
    """What an actor runs: parts built once, then task after task through `engine.stream` into its own store."""

    def __init__(self, recipe: Recipe, identity: Mapping[str, str], store: Store) -> None:
        self._recipe, self._store, self._error = recipe, store, ""
        try:
            built = recipe.build()
        except FmitError as error:  # said with each task: an actor that cannot be made is made again and again
            self._error = str(error)
        else:
            self._compute = built.compute
            if dict(built.identity) != dict(identity):
                self._error = f"this machine has other parts: {dict(built.identity)} instead of {dict(identity)}"

    def __call__(self, tasks: pa.Table) -> pa.Table:
        """The keys of each task's rows, all in the store, or the error."""
        done = [self._run(pickle.loads(task)) for task in tasks["jobs"].to_pylist()]
        return pa.table({"keys": [pickle.dumps(keys) for keys, _ in done], "error": [error for _, error in done]})

    def _run(self, jobs: Sequence[Job]) -> tuple[list[str], str]:
        if self._error:
            return [], self._error
        try:
            engine.stream(self._store, dict(jobs), self._compute, stage=self._recipe.stage)
        except FmitError as error:
            return [], str(error)
        return [key for key, _ in jobs], ""


def cut(jobs: Iterable[Job], recipe: Recipe) -> Iterator[list[Job]]:
    """Tasks of at least `n_items` jobs (the last may be shorter), no group in two of them."""
    groups: dict[str, list[Job]] = defaultdict(list)
    for number, (key, item) in enumerate(jobs):
        groups[recipe.group(item) or str(number)].append((key, item))
    task: list[Job] = []
    for members in groups.values():
        task += members
        if len(task) >= recipe.n_items:
            yield task
            task = []
    if task:
        yield task


def room(resources: Mapping[str, float]) -> int:
    """Actors that a cluster has room for: one a GPU, else one for every MOST_ACTOR_CPUS of all CPUs but one."""
    if resources.get("GPU", 0) >= 1:
        return int(resources["GPU"])
    return max(1, math.ceil((resources.get("CPU", 1) - 1) / MOST_ACTOR_CPUS))


def share(resources: Mapping[str, float], n_actors: int) -> dict[str, Any]:
    """What one actor asks for. One CPU stays free: Ray's own tasks need it, and a dataset without it hangs silently."""
    cpus = max(0.0, resources.get("CPU", 1.0) - 1) / n_actors
    cpus = float(min(math.floor(cpus), MOST_ACTOR_CPUS)) if cpus >= 1 else math.floor(cpus * 100) / 100
    gpus = min(1.0, resources.get("GPU", 0.0) / n_actors)
    return {"num_cpus": cpus, **({"num_gpus": gpus} if gpus else {})}


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports its use to its makers
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            "engine: ray needs Ray", found=str(error), todo="pip install 'fmit[ray]', or set engine: local"
        ) from None
    return ray


@contextlib.contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Within: connected to `$RAY_ADDRESS`, to a cluster made for this call, or to what the caller has connected to."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise _no_cluster(error) from error
    except Exception as error:
        if type(error) is not Exception:  # Ray raises the bare class, and no other, where a node starts too slowly
            raise
        raise _no_cluster(error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _no_cluster(error: Exception) -> WorkerError:
    todo = "see RAY_ADDRESS (ray status), or unset it to use this machine alone; try again on a less busy machine"
    found = str(error).strip() or type(error).__name__
    return WorkerError("no Ray cluster", found=found.splitlines()[0], todo=todo)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__

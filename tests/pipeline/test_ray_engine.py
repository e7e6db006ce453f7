"""A Ray cluster gives the bytes that one process gives, through a killed worker; what goes wrong there is said here."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cache.store import Store
from pipeline import engine
from pipeline.engine import Compute, Plan, Tally, silent
from pipeline.grounding import stage as grounding_stage
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.registry import open_grounder
from pipeline.phrases import stage as phrases_stage
from pipeline.phrases.config import PhrasesConfig, open_parser
from pipeline.ray_engine import (
    RayCluster,
    Worker,
    WorkerError,
    _connected,
    actor_resources,
    cluster_of,
    cut,
    max_actors,
    stored_keys,
)
from pipeline.regions import stage as regions_stage
from pipeline.regions.config import RegionsConfig, open_net
from project import Project
from schema.errors import ConfigError, DataError, WeightsError
from tests import own
from tests.pipeline.drawn import LABELS, chosen, make_image, post

ROOT = Path(__file__).parents[2]
STAGES = ("phrases", "ground", "regions")


@dataclass(frozen=True)
class Squares:
    """A part; `refuse`: an item that it cannot compute."""

    version: str = "v1"
    refuse: int = -1

    @property
    def identity(self) -> dict[str, str]:
        return {"name": "squares", "version": self.version}


def compute(missing: dict[str, int], part: Squares) -> Iterator[tuple[str, np.ndarray]]:
    for key, item in missing.items():
        if item == part.refuse:
            raise DataError("no square", found=str(item))
        yield key, np.float32([item * item])


def missing_part() -> Squares:
    raise WeightsError("no weights 'x'", todo="get it (fmit models fetch)")


def wanted(n: int) -> dict[str, int]:
    return {f"{item:064x}": item for item in range(n)}


def worker_of(store: Store, open_part: Callable[[], Squares] = Squares) -> Worker:
    return Worker(open_part, Squares().identity, compute, store)


def answer(worker: Worker, *tasks: Mapping[str, int]) -> list[tuple[list[str], str]]:
    table = worker(pa.table({"jobs": [pickle.dumps(list(task.items())) for task in tasks]}))
    return [(pickle.loads(row["keys"]), row["error"]) for row in table.to_pylist()]


def test_groups_stay_together_and_nothing_is_lost() -> None:
    jobs = [(f"k{number}", number % 5) for number in range(23)]
    tasks = list(cut(jobs, str, 6))
    assert sorted(job for task in tasks for job in task) == sorted(jobs)
    assert [len(task) for task in tasks] == [10, 9, 4]
    owners = [{item for _, item in task} for task in tasks]
    assert sum(map(len, owners)) == 5, "no group in two tasks"
    alone = list(cut(jobs, lambda _: "", 6))
    assert [len(task) for task in alone] == [6, 6, 6, 5]
    assert list(cut([], str, 6)) == []


def test_what_is_asked_of_a_cluster_leaves_a_cpu_free() -> None:
    for cpus, gpus in ((1, 0), (2, 0), (16, 0), (64, 8), (8, 2)):
        resources = {"CPU": float(cpus), **({"GPU": float(gpus)} if gpus else {})}
        for n_actors in (1, 2, max_actors(resources)):
            asked = actor_resources(resources, n_actors)
            assert asked["num_cpus"] * n_actors <= cpus - 1
            assert asked["num_cpus"] < 1 or asked["num_cpus"].is_integer(), "Ray takes no broken number above one"
            assert asked.get("num_gpus", 0) * n_actors <= gpus
    assert actor_resources({"CPU": 2.0}, 2) == {"num_cpus": 0.5}
    assert max_actors({"CPU": 64.0, "GPU": 8.0}) == 8
    assert max_actors({"CPU": 2.0}) == 1


@pytest.mark.parametrize("error", [Exception("node timed out\nsee its logs"), ConnectionError("node timed out")])
def test_a_cluster_that_does_not_start_is_named(error: Exception) -> None:
    def init(**_: Any) -> None:
        raise error

    with (
        pytest.raises(WorkerError, match=r"no Ray cluster.*node timed out\b.*unset it to use this machine only"),
        _connected(SimpleNamespace(is_initialized=lambda: False, init=init)),
    ):
        pass


def test_an_error_without_words_is_named_by_its_kind() -> None:
    def init(**_: Any) -> None:
        raise ConnectionError

    with (
        pytest.raises(WorkerError, match=r"no Ray cluster.*ConnectionError") as raised,
        _connected(SimpleNamespace(is_initialized=lambda: False, init=init)),
    ):
        pass
    assert isinstance(raised.value.__cause__, ConnectionError), "the traceback is there for who wants it"


def test_a_fault_in_ray_itself_is_not_hidden() -> None:
    def init(**_: Any) -> None:
        raise AttributeError("a fault")

    with pytest.raises(AttributeError), _connected(SimpleNamespace(is_initialized=lambda: False, init=init)):
        pass


def test_a_worker_puts_rows_once(tmp_path: Path) -> None:
    tasks = [dict(list(wanted(5).items())[:3]), dict(list(wanted(5).items())[2:])]
    with Store(tmp_path) as store:
        worker = worker_of(pickle.loads(pickle.dumps(store)))
        assert answer(worker, *tasks) == [(list(task), "") for task in tasks]
        assert [float(row[0]) for row in store.get(list(wanted(5)))] == [0, 1, 4, 9, 16]
        shards = sorted(tmp_path.glob("arrays/**/*.h5"))
        assert answer(worker, *tasks)[1] == (list(tasks[1]), ""), "a task that comes again computes nothing"
        assert sorted(tmp_path.glob("arrays/**/*.h5")) == shards


def test_what_a_worker_cannot_do_is_its_answer(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        other = worker_of(store, partial(Squares, "v2"))
        (found,) = answer(other, wanted(1))
        assert found[0] == []
        assert found[1].startswith("this machine has different models: {'name': 'squares', 'version': 'v2'} instead of")
        none = worker_of(store, missing_part)
        assert answer(none, wanted(1)) == [([], "no weights 'x'; get it (fmit models fetch)")]
        failing = worker_of(store, partial(Squares, refuse=2))
        assert answer(failing, wanted(4)) == [([], "no square (found 2)")]
        assert len(store.missing(list(wanted(4)))) == 2, "what was computed before is kept"


def test_rows_in_another_store_are_noticed(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        with pytest.raises(
            WorkerError, match=r"squares: 2 row\(s\) that a worker stored are not in the store; set FMIT_STORE to"
        ):
            stored_keys("squares", {"keys": pickle.dumps(list(wanted(2))), "error": ""}, store)
        with pytest.raises(WorkerError, match=r"squares: a worker failed \(found no disk\); fix it and run the same"):
            stored_keys("squares", {"keys": b"", "error": "no disk"}, store)


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"engine: ray needs Ray \(found .*\); pip install 'fmit\[ray\]', or set"):
        cluster_of(PhrasesConfig(engine="ray"), Squares, str, 2)
    assert cluster_of(PhrasesConfig(), Squares, str, 2) is None


def sent(value: Any) -> Any:
    """As it arrives in another process."""
    data = pickle.dumps(value)
    assert len(data) < 4096
    return pickle.loads(data)


def recomputed(rows: dict[str, Any], plan: Plan[Any, Any], compute: Compute, open_part: Callable[[], Any]) -> None:
    """What another process would compute from the plan's items is what is here."""
    again = dict(sent(compute)(plan.items, sent(open_part)()))
    assert again.keys() == rows.keys()
    assert all(np.array_equal(again[key], rows[key]) for key in rows)


def test_stages_can_be_sent_to_other_machines(tmp_path: Path) -> None:
    posts = [post("a", make_image(tmp_path, "1.png")), post("b", make_image(tmp_path, "2.png", seed=1))]
    phrases = PhrasesConfig()
    parser = open_parser(phrases)
    trees = phrases_stage.plan(posts, parser)
    rows = dict(phrases_stage.compute(trees.items, parser))
    recomputed(rows, trees, phrases_stage.compute, partial(open_parser, phrases))

    ground = GroundConfig(grounder="synthetic-grounder")
    grounder = open_grounder(ground)
    boxes = grounding_stage.plan(posts, [], LABELS, ground, grounder)
    work = partial(grounding_stage.compute, folder=tmp_path, n_workers=0)
    recomputed(dict(work(boxes.items, grounder)), boxes, work, partial(open_grounder, ground))
    digests = [query.image.digest for query in boxes.items.values()]
    assert digests == [posts[0].images[0].digest] * 2 + [posts[1].images[0].digest] * 2

    regions = RegionsConfig(crop_px=32, resize_px=32, batch=4, device="cpu")
    net = open_net(regions)
    for grid in (False, True):
        general = [chosen(word, (1, 1, 9, 9)) for word in LABELS.general_words]
        crops = (
            regions_stage.plan_grids(posts, net)
            if grid
            else regions_stage.plan(posts, {one.id: general for one in posts}, LABELS, regions, net)
        )
        work = partial(regions_stage.compute, config=regions, folder=tmp_path, grid=grid)
        recomputed(dict(work(crops.items, net)), crops, work, partial(open_net, regions))


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ConfigError, match="engine: Input should be 'local' or 'ray'"):
        PhrasesConfig.from_section({"engine": "spark"}, "phrases", {})


# On a local cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two CPUs of this machine; workers find this test's module."""
    ray = pytest.importorskip("ray")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    for left in (2, 1, 0):
        try:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            break
        except Exception as error:  # Ray gives its processes 30 s to start, on a crowded machine too
            ray.shutdown()
            if not left or "timed out during startup" not in str(error):
                raise
    yield ray
    ray.shutdown()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


def project(root: Path, engine: str) -> Project:
    """Drawn posts, two without an image that can be read, and settings whose tasks are small."""
    more = f"engine: {engine}, actors: 2}}"
    settings = own.PARAMS.replace("embedded}", f"embedded, {more}").replace("synthetic}", f"synthetic, {more}")
    settings = settings.replace("n_buckets: 8}", f"n_buckets: 8, batch: 8, {more}")
    root.mkdir()
    (root / "params.yaml").write_text(settings, encoding="utf-8")
    own.write_posts(root / "data" / "own", own.SIZES)
    for number, path in enumerate(sorted((root / "data" / "own" / "images").iterdir())):
        if number in (2, 7):
            path.write_bytes(b"") if number == 2 else path.unlink()
    found = Project.open(root / "params.yaml")
    found.ingest("own", silent)
    return found


def outs(made: Project) -> dict[str, bytes]:
    folder = made.root / "out" / "own"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def slowly(missing: dict[str, Any], net: Any, usual: Compute, pids: Path, **more: Any) -> Iterator[tuple[str, Any]]:
    """As the stage computes, slowed down; says in which process."""
    (pids / str(os.getpid())).touch()
    for row in usual(missing, net, **more):
        time.sleep(0.05)
        yield row


def kill_one(folder: Path, store: Path) -> None:
    """Once two workers are there and a row is stored, kill one: the way the kernel does when memory ends."""
    while not folder.with_name("over").exists():
        pids = sorted(folder.iterdir())
        if len(pids) >= 2 and list(store.glob("**/*.h5")):
            os.kill(int(pids[0].name), signal.SIGKILL)
            (folder / "killed").touch()
            return
        time.sleep(0.02)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_workers_one_killed_give_the_bytes_of_one_process(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = project(tmp_path / "alone", "local")
    tallies = [getattr(alone, stage)("own", silent) for stage in STAGES]
    monkeypatch.setattr(phrases_stage, "BATCH", 4)
    monkeypatch.setattr(grounding_stage, "N_QUERIES", 8)
    monkeypatch.setattr(regions_stage, "N_BATCHES", 1)
    pids = tmp_path / "pids"
    pids.mkdir()
    slow = partial(slowly, usual=regions_stage.compute, pids=pids)
    spread_out = project(tmp_path / "spread", "ray")
    killer = threading.Thread(target=kill_one, args=(pids, spread_out.store / "regions"), daemon=True)
    seen: list[tuple[int, int]] = []
    found = [getattr(spread_out, stage)("own", silent) for stage in STAGES[:2]]
    monkeypatch.setattr(regions_stage, "compute", slow)
    killer.start()
    found.append(spread_out.regions("own", lambda *call: seen.append(call)))
    killer.join(timeout=1)
    (tmp_path / "over").touch()
    assert (pids / "killed").exists(), "a worker was killed in the middle"
    assert len(list(pids.iterdir())) >= 4, "two workers, the one that took the killed one's place, and the mark"
    assert found == tallies
    assert all(tally.n_computed == tally.n_rows > 0 for tally in found)
    assert seen[-1] == (found[-1].n_rows, found[-1].n_rows)
    assert outs(spread_out) == outs(alone)
    again = Project(spread_out.root, alone.params)
    assert [getattr(again, stage)("own", silent).n_computed for stage in STAGES] == [0, 0, 0], "no key names the engine"
    assert outs(again) == outs(alone)


@pytest.mark.long
def test_errors_of_workers_come_back(cluster: Any, tmp_path: Path) -> None:
    plan = Plan.of("squares", [("p", list(wanted(4).items()), None)])
    with Store(tmp_path) as store:
        failing = RayCluster(partial(Squares, refuse=3), str, 1, 2)
        with pytest.raises(WorkerError, match=r"squares: a worker failed \(found no square \(found 3\)\); fix it"):
            engine.run(plan, Squares(), compute, store, cluster=failing)
        fixed = RayCluster(Squares, str, 1, 2)
        assert engine.run(plan, Squares(), compute, store, cluster=fixed)[1].n_rows == 4
        assert [float(row[0]) for row in store.get(list(wanted(4)))] == [0, 1, 4, 9]
        assert engine.run(plan, Squares(), compute, store, cluster=fixed)[1] == Tally("squares", 4, 0)

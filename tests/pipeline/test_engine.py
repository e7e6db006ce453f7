"""Rows are decided, computed once, put as they come, and kept when a run dies."""

import threading
import time
from dataclasses import replace

import pytest

from pipeline import engine
from pipeline.engine import Memory, Plan, Tally, in_batches, prefetch, put_rows
from schema.errors import DataError, MissingKeys


class Recorder(Memory):
    """A store that writes down what it was asked, and counts as durable only what a flush followed."""

    def __init__(self):
        super().__init__()
        self.durable, self.n_flushes = set(), 0

    def flush(self):
        self.durable |= set(self._rows)
        self.n_flushes += 1


class Squares:
    """A part that computes squares, in batches."""

    identity = {"name": "squares"}  # noqa: RUF012

    def __init__(self, fail_at=None):
        self.batches, self.fail_at = [], fail_at

    def __call__(self, items):
        if self.fail_at in items:
            raise KeyboardInterrupt
        self.batches.append(items)
        return [item * item for item in items]


def plan_of(wanted, stage="s"):
    """A plan of (key, item) of one post."""
    return Plan.of(stage, [("p", list(wanted), None)])


def fill(store, wanted, squares, *, batch, progress=engine.silent, cluster=None):
    """All values by key, and the tally."""
    plan = plan_of(wanted)
    rows, tally = engine.run(
        plan, squares, lambda items, part: in_batches(items, part, batch), store, cluster=cluster, progress=progress
    )
    return dict(zip(plan.items, rows.get(list(plan.items)), strict=True)), tally


def run(store, wanted, compute, stage="s"):
    return engine.run(plan_of(wanted.items(), stage), Squares(), lambda items, part: compute(items), store)[1]


def test_line_and_sum():
    tally = Tally("regions", 812, 0)
    assert tally.line("smoke") == "regions smoke: 812 rows, 0 computed, 812 from store"
    assert tally + Tally("grid", 8, 3) == Tally("regions", 820, 3)
    assert (tally + Tally("regions", 8, 3)).line("d") == "regions d: 820 rows, 3 computed, 817 from store"
    cut = Tally("regions", 8, 3, 2) + Tally("grid", 1, 0, 1)
    assert cut.line("d") == "regions d: 9 rows, 3 computed, 6 from store; 3 phrases cut"
    long = replace(tally, stage="ground", n_computed=812, n_too_long=2) + tally
    assert long.line("d").endswith("; 2 boxes of texts that the grounder truncates")


@pytest.mark.parametrize("store", [None, Recorder()])
def test_every_key_once_in_batches(store):
    squares = Squares()
    wanted = [("a", 1), ("b", 2), ("a", 1), ("c", 3), ("d", 4), ("b", 2), ("e", 5)]
    values, tally = fill(store, wanted, squares, batch=2)
    assert values == {"a": 1, "b": 4, "c": 9, "d": 16, "e": 25}
    assert list(values) == ["a", "b", "c", "d", "e"]
    assert squares.batches == [[1, 2], [3, 4], [5]]
    assert tally == Tally("s", 5, 5)


def test_of_a_repeated_key_the_first_item_counts():
    values, _ = fill(None, [("a", 2), ("a", 3)], Squares(), batch=1)
    assert values == {"a": 4}


def test_only_missing_rows_are_computed():
    store, squares = Recorder(), Squares()
    store.put({"b": 4})
    values, tally = fill(store, [("a", 1), ("b", 2)], squares, batch=9)
    assert (values, squares.batches, tally) == ({"a": 1, "b": 4}, [[1]], Tally("s", 2, 1))
    _, again = fill(store, [("a", 1), ("b", 2)], squares, batch=9)
    assert again == Tally("s", 2, 0)
    assert squares.batches == [[1]]
    assert store.n_flushes == 1, "nothing computed, nothing to write"


def test_an_interrupted_run_keeps_what_it_computed_and_resumes():
    store = Recorder()
    wanted = [(f"k{item}", item) for item in range(6)]
    with pytest.raises(KeyboardInterrupt):
        fill(store, wanted, Squares(fail_at=4), batch=2)
    assert store.durable == {"k0", "k1", "k2", "k3"}
    squares = Squares()
    values, tally = fill(store, wanted, squares, batch=2)
    assert squares.batches == [[4, 5]]
    assert tally == Tally("s", 6, 2)
    assert values["k5"] == 25


def test_flushes_while_it_runs(monkeypatch):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(engine.time, "monotonic", lambda: float(next(clock)))
    store, seen = Recorder(), []

    def compute(missing):
        for key in missing:
            seen.append(len(store.durable))
            yield key, 0

    run(store, {f"k{index}": index for index in range(6)}, compute)
    assert seen[-1] >= 3, "a kill now would lose two rows at most"
    assert len(store.durable) == 6


def test_rows_are_put_in_groups_as_they_come(monkeypatch):
    monkeypatch.setattr(engine, "N_PUT", 2)
    store, held = Recorder(), []

    def compute(missing):
        for key in missing:
            held.append(len(store._rows))
            yield key, 0

    run(store, {f"k{index}": index for index in range(5)}, compute)
    assert held == [0, 0, 2, 2, 4], "at most a group waits outside the store"


class Pairs:
    """A cluster that computes two rows at a time, all but those of `lose`."""

    def __init__(self, lose=()):
        self.lose = lose

    def compute(self, stage, missing, identity, compute, store):
        assert (stage, identity) == ("s", Squares.identity)
        keys = [key for key in missing if key not in self.lose]
        for start in range(0, len(keys), 2):
            store.put({key: missing[key] ** 2 for key in keys[start : start + 2]})
            yield keys[start : start + 2]


def test_only_rows_that_are_stored_are_padded_to_the_full_batch():
    shapes = []

    def compute(items):
        shapes.append([engine.batch_shape(n_rows, 16) for n_rows in (1, 3, 5, 8, 9, 16)])
        return [(key, 0) for key in items]

    for store in (None, Memory(), None):
        run(store, {"a": 1}, compute)
    small, full = [1, 4, 8, 8, 16, 16], [16] * 6
    assert shapes == [small, full, small]
    assert engine.batch_shape(1, 16) == 16, "outside a run"
    with pytest.raises(KeyboardInterrupt):
        fill(None, [("a", 1)], Squares(fail_at=1), batch=1)
    assert engine.batch_shape(1, 16) == 16


def test_a_cluster_computes_instead():
    calls, wanted, store = [], [("a", 1), ("b", 2), ("c", 3), ("a", 1)], Recorder()
    store.put({"b": 4})
    values, tally = fill(
        store, wanted, Squares(fail_at=1), batch=1, progress=lambda *c: calls.append(c), cluster=Pairs()
    )
    assert values == {"a": 1, "b": 4, "c": 9}
    assert (tally, calls) == (Tally("s", 3, 2), [(1, 3), (3, 3)])
    with pytest.raises(DataError, match=r"s: 1 row\(s\) were not computed \(found c\)"):
        fill(Recorder(), wanted, Squares(), batch=1, cluster=Pairs(lose=("c",)))


def test_progress_starts_with_what_is_stored():
    store, calls = Recorder(), []
    store.put({"a": 1})
    fill(store, [("a", 1), ("b", 2), ("c", 3)], Squares(), batch=1, progress=lambda *call: calls.append(call))
    assert (calls[0], calls[-1]) == ((1, 3), (3, 3))
    assert calls == sorted(calls)


def test_a_row_left_out_is_an_error():
    with pytest.raises(DataError, match=r"regions: 1 row\(s\) were not computed \(found b\)"):
        run(Memory(), {"a": 1, "b": 2}, lambda missing: [("a", 1)], "regions")
    with pytest.raises(ValueError, match="zip"):
        run(None, {"a": 1, "b": 2}, lambda items: in_batches(items, lambda listed: [0], 2))


def test_a_plan_knows_what_each_post_needs():
    plan = Plan.of("s", [("p", [("a", 1), ("b", 2), ("a", 1)], "x"), ("q", [("b", 2)], "y"), ("r", [], "z")])
    assert (plan.items, plan.keys) == ({"a": 1, "b": 2}, {"p": ["a", "b", "a"], "q": ["b"], "r": []})
    store = Memory()
    store.put({"b": 4})
    assert plan.complete(store) == {"q", "r"}
    part = plan.only(["q", "unknown"])
    assert (part.items, part.keys, part.details) == ({"b": 2}, {"q": ["b"]}, {"q": "y"})
    assert list(part.read(store)) == [("q", "y", [4])]


def test_rows_of_an_interrupted_consumer_are_kept():
    """As when Ctrl-C is pressed while progress is shown."""
    store = Recorder()
    rows = put_rows(store, ((f"k{index}", index) for index in range(100)))
    assert len(next(rows)) == engine.N_PUT
    rows.close()
    assert len(store.durable) == engine.N_PUT


def test_memory_names_what_it_lacks():
    with pytest.raises(MissingKeys, match=r"memory: 1 key\(s\) not in the store \(found b\)"):
        Memory().get(["b"])


def test_nothing_wanted():
    assert fill(None, [], Squares(), batch=4) == ({}, Tally("s", 0, 0))


@pytest.mark.parametrize("n_workers", [0, 1, 3])
def test_prefetch_keeps_the_order(n_workers):
    def work(item):
        time.sleep(0.002 * (item % 3))
        return item * 2

    assert list(prefetch(work, range(20), n_workers)) == list(range(0, 40, 2))


def test_prefetch_is_bounded_and_stops_early():
    started, taken = [], []
    results = prefetch(lambda item: started.append(item) or item, iter(range(1000)), 2)
    for _ in range(3):
        taken.append(next(results))
        time.sleep(0.01)
        assert len(started) <= len(taken) + engine.N_PREFETCH * 2 + 1
    results.close()
    assert taken == [0, 1, 2]
    assert len(started) < 12, "nobody takes the rest, nobody computes it"


def test_prefetch_passes_errors_on():
    def work(item):
        if item == 3:
            raise DataError("no image")
        return item

    got = []
    with pytest.raises(DataError, match="no image"):
        got.extend(prefetch(work, range(1000), 2))
    assert got == [0, 1, 2]
    assert threading.active_count() < 20


class Losing(Recorder):
    """Rows that are there when one asks, and turn out to be damaged when they are read."""

    def __init__(self, *lost):
        super().__init__()
        self.lost = list(lost)

    def get(self, keys):
        gone = [key for key in keys if key in self.lost and key in self._rows]
        for key in gone:
            self.lost.remove(key)
            del self._rows[key]
        return super().get(keys)


def test_rows_that_turn_out_damaged_are_computed_in_the_same_run(caplog):
    store, squares = Losing("a", "c"), Squares()
    store.put({"a": 1, "b": 4, "c": 9})
    values, _ = fill(store, [("a", 1), ("b", 2), ("c", 3), ("d", 4)], squares, batch=9)
    assert values == {"a": 1, "b": 4, "c": 9, "d": 16}
    assert squares.batches == [[4], [1, 3]]
    assert "s: memory: 2 key(s) not in the store (found a, c); 2 row(s) computed again" in caplog.text


def test_rows_that_are_lost_each_time_are_an_error():
    store = Losing("a", "a")
    store.put({"a": 1})
    with pytest.raises(MissingKeys, match=r"1 key\(s\) not in the store"):
        fill(store, [("a", 1)], Squares(), batch=9)

import hashlib
import os

import numpy as np
import pytest
import yaml

from cache.store import Store
from checks import store

KEY = "a" * 64


def levels(found):
    return [(one.level, one.what) for one in found]


def test_a_store_that_is_not_there_yet_is_fine_and_stays_so(tmp_path):
    (one,) = store.check_store(tmp_path / "a" / "store")
    assert (one.level, "does not exist yet" in one.what) == ("ok", True)
    assert list(tmp_path.iterdir()) == []


def test_rows_and_quarantine_are_counted(tmp_path):
    with Store(tmp_path / "regions") as rows:
        rows.put({KEY: np.ones(3, np.float32)})
    (one,) = store.check_store(tmp_path)
    assert "1 rows in 1 shard(s)" in one.what
    (shard,) = tmp_path.rglob("*.h5") if not list(tmp_path.rglob("index/*.h5")) else tmp_path.rglob("shards/*.h5")
    shard.rename(shard.parents[1] / "quarantine" / shard.name)
    _, note = store.check_store(tmp_path)
    assert (note.level, note.what) == ("note", "1 damaged shard(s) in regions/arrays/quarantine")


def test_a_read_only_store_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    found = list(store.check_store(tmp_path / "store"))
    assert (found[0].level, found[0].what) == ("problem", f"{tmp_path} is read-only")


def test_a_store_that_is_a_file_is_a_problem(tmp_path):
    (tmp_path / "store").write_text("")
    assert levels(store.check_store(tmp_path / "store")) == [("problem", f"{tmp_path / 'store'} is not a folder")]


def test_without_git_and_dvc_there_are_notes_only(tmp_path):
    found = list(store.check_dvc(tmp_path))
    assert {one.level for one in found} == {"note"}
    assert any("no git repository" in one.what for one in found)


@pytest.fixture
def locked(tmp_path):
    """A stage of dvc.lock as DVC writes it, fresh."""
    (tmp_path / "params.yaml").write_text("data: {own: {train: {epochs: 1}}}\n")
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / "out").mkdir()
    stage = {
        "deps": [{"path": "code.py", "hash": "md5", "md5": hashlib.md5(b"x = 1\n").hexdigest(), "size": 6}],
        "params": {"params.yaml": {"data.own.train": {"epochs": 1}}},
        "outs": [{"path": "out", "md5": "0.dir"}],
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"train@own": stage}}))
    return tmp_path


def told(root):
    return [one.what for one in store.check_dvc(root)][-1]


def test_a_fresh_stage_is_not_called_stale(locked):
    assert told(locked).startswith("1 stage(s) in dvc.lock, none is stale")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda root: (root / "code.py").write_text("x = 2\n"), "code.py changed"),
        (lambda root: (root / "code.py").unlink(), "code.py is missing"),
        (lambda root: (root / "out").rmdir(), "out is missing"),
        (lambda root: (root / "params.yaml").write_text("data: {own: {}}"), "data.own.train changed"),
    ],
)
def test_a_stale_stage_says_why(locked, change, why):
    change(locked)
    assert told(locked) == f"1 of 1 stage(s) stale: train@own: {why}"


def test_a_lock_that_cannot_be_read_is_a_problem(locked):
    (locked / "dvc.lock").write_text("{")
    assert [one.level for one in store.check_dvc(locked)][-1] == "problem"

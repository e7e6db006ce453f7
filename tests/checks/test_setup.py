import os

import numpy as np

from cache.store import Store
from checks import setup
from project import Project
from tests import own

KEY = "a" * 64


def opened(root, params):
    (root / "params.yaml").write_text(params)
    return Project.open(root / "params.yaml")


def problems(found):
    return [one.what for one in found if one.level == "problem"]


def test_params_that_cannot_be_read_leave_no_project(tmp_path):
    assert setup.open_project(tmp_path / "params.yaml")[0] is None
    (tmp_path / "params.yaml").write_text("datasetz: [a]\ndata: {}\n")
    project, found = setup.open_project(tmp_path / "params.yaml")
    assert project is None
    assert "did you mean datasets" in found.what


def test_names_that_lead_nowhere(tmp_path):
    params = own.PARAMS.replace("train_on: [own]", "train_on: [own, other]").replace("[fmit]", "[fmit, nonsense]")
    found = problems(setup.check_names(opened(tmp_path, params)))
    assert found[:2] == ["dataset other has no block in data", "other is in train_on but not in datasets"]
    assert "unknown approach 'nonsense'" in found[2]
    assert problems(setup.check_names(opened(tmp_path, own.PARAMS))) == []


def test_a_cluster_without_ray_is_a_problem(tmp_path, monkeypatch):
    project = opened(tmp_path, own.PARAMS.replace("ground: {preset: synthetic}", "ground: {engine: ray}"))
    monkeypatch.setattr(setup, "import_error", lambda name: "No module named 'ray'" if "ray" in name else "")
    (found,) = [one for one in setup.check_names(project) if one.level == "problem"]
    assert found.what == "data.own.ground: engine: ray, but No module named 'ray'"
    assert found.todo == "pip install 'fmit[ray]'"


def test_a_section_with_an_unknown_key_is_a_problem(tmp_path):
    params = own.PARAMS.replace("n_buckets", "n_bucket")
    (found,) = problems(setup.check_models(opened(tmp_path, params)))
    assert "data.own.regions.n_bucket: unknown key, did you mean n_buckets?" in found


def test_a_model_without_a_digest_is_a_note_with_the_digest(tmp_path):
    (tmp_path / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    (tmp_path / "config.json").write_text("{}")
    params = own.PARAMS.replace("preset: tiny,", f"preset: tiny, encoder: {tmp_path},")
    (note,) = [one for one in setup.check_models(opened(tmp_path, params)) if one.level == "note"]
    assert "not pinned" in note.what


def levels(found):
    return [(one.level, one.what) for one in found]


def test_a_store_that_is_not_there_yet_is_fine_and_stays_so(tmp_path):
    (one,) = setup.check_store(tmp_path / "a" / "store")
    assert (one.level, "does not exist yet" in one.what) == ("ok", True)
    assert list(tmp_path.iterdir()) == []


def test_rows_and_quarantine_are_counted(tmp_path):
    with Store(tmp_path / "regions") as rows:
        rows.put({KEY: np.ones(3, np.float32)})
    (one,) = setup.check_store(tmp_path)
    assert "1 rows in 1 shard(s)" in one.what
    (shard,) = tmp_path.rglob("*.h5") if not list(tmp_path.rglob("index/*.h5")) else tmp_path.rglob("shards/*.h5")
    shard.rename(shard.parents[1] / "quarantine" / shard.name)
    _, note = setup.check_store(tmp_path)
    assert (note.level, note.what) == ("note", "1 damaged shard(s) in regions/arrays/quarantine")


def test_a_read_only_store_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    found = list(setup.check_store(tmp_path / "store"))
    assert (found[0].level, found[0].what) == ("problem", f"{tmp_path} is read-only")


def test_a_store_that_is_a_file_is_a_problem(tmp_path):
    (tmp_path / "store").write_text("")
    assert levels(setup.check_store(tmp_path / "store")) == [("problem", f"{tmp_path / 'store'} is not a folder")]


def test_without_git_and_dvc_there_are_notes_only(tmp_path):
    found = list(setup.check_dvc(tmp_path))
    assert {one.level for one in found} == {"note"}
    assert any("no git repository" in one.what for one in found)


def test_what_is_out_of_date_is_asked_of_dvc(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    assert list(setup.check_dvc(tmp_path))[-1].todo == "dvc repro"
    (tmp_path / "dvc.lock").write_text("")
    assert list(setup.check_dvc(tmp_path))[-1].what.endswith("`dvc status` lists those that are out of date")

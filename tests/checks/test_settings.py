from checks import settings
from project import Project
from tests import own


def opened(root, params):
    (root / "params.yaml").write_text(params)
    return Project.open(root / "params.yaml")


def problems(found):
    return [one.what for one in found if one.level == "problem"]


def test_params_that_cannot_be_read_leave_no_project(tmp_path):
    assert settings.open_project(tmp_path / "params.yaml")[0] is None
    (tmp_path / "params.yaml").write_text("datasetz: [a]\ndata: {}\n")
    project, found = settings.open_project(tmp_path / "params.yaml")
    assert project is None
    assert "did you mean datasets" in found.what


def test_names_that_lead_nowhere(tmp_path):
    params = own.PARAMS.replace("train_on: [own]", "train_on: [own, other]").replace("[fmit]", "[fmit, nonsense]")
    found = problems(settings.check_names(opened(tmp_path, params)))
    assert found[:2] == ["dataset other has no block in data", "other is in train_on but not in datasets"]
    assert "no approach 'nonsense'" in found[2]
    assert problems(settings.check_names(opened(tmp_path, own.PARAMS))) == []


def test_a_cluster_without_ray_is_a_problem(tmp_path, monkeypatch):
    project = opened(tmp_path, own.PARAMS.replace("ground: {preset: embedded}", "ground: {engine: ray}"))
    monkeypatch.setattr(settings, "import_error", lambda name: "No module named 'ray'" if "ray" in name else "")
    (found,) = [one for one in settings.check_names(project) if one.level == "problem"]
    assert found.what == "data.own.ground: engine: ray, but No module named 'ray'"
    assert found.todo == "pip install 'fmit[ray]'"


def test_a_section_with_an_unknown_key_is_a_problem(tmp_path):
    params = own.PARAMS.replace("n_buckets", "n_bucket")
    (found,) = problems(settings.check_models(opened(tmp_path, params)))
    assert "data.own.regions.n_bucket: unknown key, did you mean n_buckets?" in found


def test_a_model_without_a_digest_is_a_note_with_the_digest(tmp_path):
    (tmp_path / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    (tmp_path / "config.json").write_text("{}")
    params = own.PARAMS.replace("preset: tiny,", f"preset: tiny, encoder: {tmp_path},")
    (note,) = [one for one in settings.check_models(opened(tmp_path, params)) if one.level == "note"]
    assert "not pinned" in note.what

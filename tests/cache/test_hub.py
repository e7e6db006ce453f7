import hashlib
import json

import pytest
from huggingface_hub import constants, snapshot_download

from cache import hub
from schema.errors import WeightsError


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "downloaded"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_an_installed_model_is_found_by_the_library_that_reads_the_cache(root, model):
    found = hub.install("owner/name", model)
    assert hub.snapshot("owner/name") == found
    library = snapshot_download("owner/name", local_files_only=True, cache_dir=root)
    assert library == str(found)
    assert hub.weights_file(found).read_bytes() == b"weights"
    assert hub.damage(found) == ""
    assert {path.name: path.read_bytes() for path in found.iterdir()} == {
        path.name: path.read_bytes() for path in model.iterdir()
    }


def test_revisions_live_side_by_side(model):
    first = hub.install("name", model, "a" * 40)
    (model / "model.safetensors").write_bytes(b"others")
    second = hub.install("name", model, "b" * 40)
    assert hub.snapshot("name", "a" * 40) == first
    assert hub.snapshot("name") == second
    assert hub.snapshot("name", "c" * 40) is None
    assert (first / "model.safetensors").read_bytes() == b"weights"


def test_a_changed_blob_is_damage_and_installing_again_repairs_it(model):
    found = hub.install("name", model)
    (found / "model.safetensors").resolve().write_bytes(b"weighty")
    assert hub.damage(found) == "the bytes of model.safetensors do not match their digest"
    assert hub.damage(hub.install("name", model)) == ""


def test_small_files_are_named_by_git(model):
    found = hub.install("name", model)
    data = (model / "config.json").read_bytes()
    blob = (found / "config.json").resolve()
    git = blob.with_name(hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())
    blob.rename(git)
    assert "config.json is not there" in hub.damage(found)
    (found / "config.json").unlink()
    (found / "config.json").symlink_to(git)
    assert hub.damage(found) == ""
    git.write_bytes(b"{}")
    assert "config.json do not match" in hub.damage(found)


def test_a_folder_without_weights_is_no_model(model):
    (model / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="incomplete model: no weights"):
        hub.install("name", model)
    (model / "config.json").unlink()
    assert hub.damage(model) == "no config.json and no weights"

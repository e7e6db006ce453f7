import json
import socket

import pytest

from cache import keys
from commands.models import state
from commands.models.fetching import fetch
from commands.models.named import Model
from commands.models.state import look

EMPTY = (8).to_bytes(8, "little") + b"{}      "  # a safetensors file of no tensor


def test_the_digest_of_a_folder_is_the_one_that_the_parsers_name(tmp_path):
    benepar = pytest.importorskip("pipeline.phrases.benepar")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(EMPTY)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "more").write_text("x")
    assert look(Model(str(tmp_path), "parser", "benepar", ())).digest == benepar.digest(tmp_path)
    file = tmp_path / "model.safetensors"
    assert look(Model(str(file), "parser", "benepar", ())).digest == keys.digest_file(file)


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
    assert look(Model(str(tmp_path), "parser", "benepar", ())).state == "present"
    (tmp_path / file).write_bytes(content)
    found = look(Model(str(tmp_path), "parser", "benepar", ()))
    assert (found.state, found.why[: len(why)]) == ("damaged", why)


def test_a_spacy_pipeline_is_found_and_pinned_without_being_loaded(tmp_path):
    import spacy

    noun_chunks = pytest.importorskip("pipeline.phrases.noun_chunks")
    pipeline = spacy.blank("en")
    pipeline.to_disk(tmp_path / "pipe")
    loaded = spacy.load(tmp_path / "pipe")
    digest = noun_chunks._digest(loaded)
    found = look(Model(str(tmp_path / "pipe"), "parser", "spacy", (), digest))
    assert (found.state, found.digest, found.pinned) == ("present", digest, True)
    (tmp_path / "pipe" / "meta.json").write_text("{}")
    changed = look(Model(str(tmp_path / "pipe"), "parser", "spacy", (), digest))
    assert (changed.state, changed.why.split(",")[1]) == ("damaged", f" expected {digest}")


def test_a_folder_of_ones_own_is_an_encoder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    model = Model(str(tmp_path), "encoder", "hub", ())
    assert look(model).why == "no weights"
    (tmp_path / "model.safetensors").write_bytes(b"no such file")
    found = look(model)
    assert found.state == "damaged"
    assert "cannot be read" in found.why


def test_settings_that_are_cut_short_are_damage(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    (tmp_path / "tokenizer.json").write_text('{"model": {"voc')
    found = look(Model(str(tmp_path), "encoder", "hub", ()))
    assert found.state == "damaged"
    assert found.why.startswith("tokenizer.json: ")


def test_several_files_of_weights_have_one_digest(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in names:
        (tmp_path / name).write_bytes((8).to_bytes(8, "little") + b"{}      ")
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    wanted = keys.key("model-folder", files={name: keys.digest_file(tmp_path / name) for name in names})
    found = look(Model(str(tmp_path), "grounder", "hub", (), wanted))
    assert (found.state, found.digest, found.pinned) == ("present", wanted, True)
    (tmp_path / names[1]).write_bytes((8).to_bytes(8, "little") + b"{}")
    unpinned = look(Model(str(tmp_path), "grounder", "hub", ()))
    assert unpinned.state == "damaged"
    assert unpinned.why.startswith(f"{names[1]}: it cannot be read: ")
    (tmp_path / names[1]).write_bytes(b"other")
    assert look(Model(str(tmp_path), "grounder", "hub", (), wanted)).why.endswith(f"expected {wanted}")
    (tmp_path / names[1]).unlink()
    assert look(Model(str(tmp_path), "grounder", "hub", ())).why.startswith("the model's weights cannot be read: ")


def test_an_index_that_lists_what_is_not_there_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "lost.safetensors"}}))
    found = look(Model(str(tmp_path), "grounder", "hub", ()))
    assert (found.state, "lost.safetensors" in found.why) == ("damaged", True)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    assert look(Model(str(tmp_path), "grounder", "hub", ())).state == "damaged"


def test_converted_weights_are_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FMIT_MODELS", str(tmp_path / "models"))
    missing = look(Model("onestage", "grounder", "converted", ()))
    assert (missing.state, missing.why) == ("missing", "no such folder")
    assert "fmit models convert onestage" in missing.fetched_by
    offer = tmp_path / "offer" / "onestage"
    offer.mkdir(parents=True)
    (offer / "model.safetensors").write_bytes(EMPTY)
    fetch(missing, tmp_path / "offer")
    found = look(Model("onestage", "grounder", "converted", ()))
    assert (found.state, found.where) == ("present", str(tmp_path / "models" / "onestage"))
    assert look(Model("onestage", "grounder", "converted", (), "0" * 64)).state == "damaged"


def test_a_server_is_asked_whether_it_answers():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert look(Model(url, "parser", "server", ())).state == "present"
    found = look(Model("http://127.0.0.1:9", "parser", "server", ()))
    assert (found.state, found.why.split(":")[0]) == ("missing", "no server answers")


def test_every_kind_has_a_look_and_a_way_to_get_it():
    from typing import get_args

    from commands.models.named import Kind

    assert set(state.LOOK) == set(state.HOW) == set(get_args(Kind))


def test_torchvision_files_know_address_and_size():
    found = look(Model("resnet152-394f9c45.pth", "region net", "file", ()))
    assert found.source == "https://download.pytorch.org/models/resnet152-394f9c45.pth"
    assert found.n_bytes == pytest.approx(241_627_000, rel=1e-3)

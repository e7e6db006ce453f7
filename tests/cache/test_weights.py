"""Model files: found by path or name, checked, and read as the safetensors library reads them."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cache import keys, weights
from schema.errors import WeightsError

TENSORS = {
    "b.weight": np.arange(6, dtype="f4").reshape(2, 3),
    "a": np.array(3, "i8"),
    "half": np.ones(3, "f2"),
    "mask": np.array([True, False, True]),
    "none": np.zeros((0, 4), "f4"),
}


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    weights.save_safetensors(tmp_path / "w.safetensors", TENSORS, {"b": "2", "a": "é"})
    found = load_file(tmp_path / "w.safetensors")
    assert found.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_we_read_what_the_library_writes(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.safetensors", {"kind": "synthetic"})
    found, metadata = weights.load_safetensors(tmp_path / "w.safetensors")
    assert metadata == {"kind": "synthetic"}
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(found[name], value)


def test_equal_tensors_are_equal_bytes(tmp_path: Path) -> None:
    many = {f"k{index}": str(index) for index in range(20)}
    weights.save_safetensors(tmp_path / "a", TENSORS, many)
    weights.save_safetensors(tmp_path / "b", dict(reversed(TENSORS.items())), dict(reversed(many.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert weights.load_safetensors(tmp_path / "a")[1] == many


def test_find_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "EMBEDDED", tmp_path / "weights")
    weights.save_safetensors(tmp_path / "weights" / "shipped.safetensors", TENSORS, {})
    weights.save_safetensors(tmp_path / "mine.safetensors", TENSORS, {})
    shipped = tmp_path / "weights" / "shipped.safetensors"
    assert weights.find("shipped") == weights.find("shipped.safetensors") == shipped
    assert weights.find(tmp_path / "mine.safetensors") == tmp_path / "mine.safetensors"
    assert weights.find("shipped", keys.digest_file(tmp_path / "mine.safetensors")).name == "shipped.safetensors"
    with pytest.raises(WeightsError, match=r"no weights 'other' .*the name of an embedded one: shipped"):
        weights.find("other")
    with pytest.raises(WeightsError, match="no weights ''"):
        weights.find("")
    with pytest.raises(WeightsError, match=r"not the expected weights: sha256 \w+, expected 0000"):
        weights.find("shipped", "0" * 64)


def test_damage_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save_safetensors(path, TENSORS, {})
    data = path.read_bytes()
    for bad in (b"", data[:20], data[:-1], b"\x80\x02pickle"):
        path.write_bytes(bad)
        with pytest.raises(WeightsError, match="not a readable safetensors file"):
            weights.load_safetensors(path)
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        weights.load_safetensors(tmp_path / "none")
    with pytest.raises(WeightsError, match=r"not the expected weights: it cannot be read: .*No such file"):
        weights.verify(tmp_path / "none", "0" * 64)
    with pytest.raises(WeightsError, match='tensors that safetensors cannot hold: Unknown dtype "complex128"'):
        weights.save_safetensors(path, {"x": np.zeros(1, "c16")}, {})


def test_fetched_files_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("FMIT_MODELS", str(tmp_path))
    (tmp_path / "resnet18-f37072fd.pth").write_bytes(b"x")
    assert weights.find("resnet18-f37072fd.pth") == tmp_path / "resnet18-f37072fd.pth"
    monkeypatch.delenv("FMIT_MODELS")
    assert weights.folder() == Path(".fmit/models")


def test_a_file_tells_its_digest_by_name_or_card(tmp_path):
    assert weights.pin(tmp_path / "resnet152-394f9c45.pth") == "394f9c45"
    assert weights.pin(tmp_path / "mine.safetensors") == ""
    (tmp_path / "mine.md").write_text(f"# mine\n\n| these weights | {'a' * 64} |\n")
    assert weights.pin(tmp_path / "mine.safetensors") == "a" * 64


@pytest.mark.parametrize("name", ["nanodet-g", "parser", "synthetic-grounder"])
def test_the_embedded_cards_tell_the_digests_of_their_weights(name):
    path = weights.find(name)
    assert weights.pin(path) == keys.digest_file(path)


def test_damage_is_seen_with_and_without_a_digest(tmp_path):
    path = tmp_path / "a.safetensors"
    weights.save_safetensors(path, {"w": np.ones(100, np.float32)}, {})
    digest = keys.digest_file(path)
    assert weights.damage(path) == weights.damage(path, digest) == weights.damage(path, digest[:8]) == ""
    assert weights.damage(path, "0" * 64) == f"sha256 {digest}, expected {'0' * 64}"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert "cannot be read" in weights.damage(path)
    path.unlink()
    assert "cannot be read" in weights.damage(path)


def test_a_pickle_cut_short_is_seen(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", b"x" * 1000)
    assert weights.damage(path) == ""
    path.write_bytes(path.read_bytes()[:500])
    assert weights.damage(path) == "the file ends too early"


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>404</html>", "it is not a weights file"),
        (bytes(100), "it is not a weights file"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", ""),
    ],
)
def test_what_never_was_a_pickle_is_seen_without_a_digest(tmp_path, content, damage):
    (tmp_path / "a.pth").write_bytes(content)
    assert weights.damage(tmp_path / "a.pth") == damage

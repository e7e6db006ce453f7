"""Model files: found by path or name, checked, and read as the safetensors library reads them."""

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
    save_file(TENSORS, tmp_path / "w.safetensors", {"kind": "toy"})
    found, metadata = weights.load_safetensors(tmp_path / "w.safetensors")
    assert metadata == {"kind": "toy"}
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
    weights.save_safetensors(tmp_path / "weights" / "toy.safetensors", TENSORS, {})
    weights.save_safetensors(tmp_path / "mine.safetensors", TENSORS, {})
    assert weights.find("toy") == weights.find("toy.safetensors") == tmp_path / "weights" / "toy.safetensors"
    assert weights.find(tmp_path / "mine.safetensors") == tmp_path / "mine.safetensors"
    assert weights.find("toy", keys.digest_file(tmp_path / "mine.safetensors")).name == "toy.safetensors"
    with pytest.raises(WeightsError, match=r"no weights 'other' .*the name of an embedded one: toy"):
        weights.find("other")
    with pytest.raises(WeightsError, match="no weights ''"):
        weights.find("")
    with pytest.raises(WeightsError, match="these are not the expected weights: sha256 should be 0000"):
        weights.find("toy", "0" * 64)


def test_damage_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save_safetensors(path, TENSORS, {})
    data = path.read_bytes()
    for bad in (b"", data[:20], data[:-1], b"\x80\x02pickle"):
        path.write_bytes(bad)
        with pytest.raises(WeightsError, match="no readable safetensors file"):
            weights.load_safetensors(path)
    with pytest.raises(WeightsError, match="no readable safetensors file"):
        weights.load_safetensors(tmp_path / "none")
    with pytest.raises(WeightsError, match="cannot read weights: No such file"):
        weights.verify(tmp_path / "none", "0" * 64)
    with pytest.raises(WeightsError, match=r"tensor x has a dtype that safetensors lacks \(found complex64\)"):
        weights.save_safetensors(path, {"x": np.zeros(1, "c8")}, {})

"""Whatever bytes a weights file has: tensors come out, or one error that says why, and nothing of it runs."""

import io
import pickle
import random

import pytest
import torch

from schema.errors import WeightsError
from vision.torch_files import load_tensors

REFUSED = "rejected: the file is damaged or contains more than tensors"


def saved(value: object, *, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_numbers_and_names_come_back(tmp_path, zipped):
    (tmp_path / "w").write_bytes(saved({"a": torch.arange(3), "epoch": 4, "names": ["x"]}, zipped=zipped))
    found = load_tensors(tmp_path / "w")
    assert found["a"].tolist() == [0, 1, 2]
    assert (found["epoch"], found["names"]) == (4, ["x"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", range(6))
def test_nothing_runs_and_torchs_advice_to_let_it_is_not_repeated(tmp_path, monkeypatch, protocol):
    class Evil:
        def __reduce__(self):
            return exec, ("import pathlib; pathlib.Path('ran').touch()",)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Evil()}, protocol))
    with pytest.raises(WeightsError, match=rf"w\.pth: {REFUSED}.*; download the publisher's file") as told:
        load_tensors(tmp_path / "w.pth")
    assert "weights_only" not in str(told.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("error")
def test_junk_of_any_kind_is_one_error(tmp_path):
    """Among these are the struct.error, IndexError and AttributeError that torch lets through."""
    rng, file = random.Random(0), tmp_path / "w.pth"
    old, new = (saved({"a": torch.ones(2)}, zipped=zipped) for zipped in (False, True))
    junk = [data[:n] for data in (old, new) for n in (0, 1, 2, 3, 4, 8, 10, 30, 60, len(data) // 2)]
    junk += [rng.randbytes(rng.randrange(1, 80)) for _ in range(200)]
    junk += [b"\x80" + bytes([rng.randrange(6)]) + rng.randbytes(rng.randrange(1, 60)) for _ in range(200)]
    for data in junk:
        file.write_bytes(data)
        with pytest.raises(WeightsError, match=REFUSED):
            load_tensors(file)


def test_a_saved_web_page_is_called_one(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"\n<!DOCTYPE html><html>404</html>")
    with pytest.raises(WeightsError, match=r"found a web page"):
        load_tensors(tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"none\.pth: cannot be read: No such file"):
        load_tensors(tmp_path / "none.pth")

import shutil
from collections import namedtuple

import pytest
import torch
from packaging.requirements import Requirement

import kernels
from checks import setup


def test_the_pair_that_is_here_fits():
    found = list(setup.check_versions())
    assert not [one for one in found if one.level == "problem"]
    assert any("are compatible" in one.what for one in found)


def test_a_torch_that_torchvision_does_not_want(monkeypatch):
    monkeypatch.setattr(setup, "_requirements", lambda package: [Requirement("torch==2.14.0")])
    found = setup.check_pair("2.13.0", "0.29.0")
    assert found.level == "problem"
    assert "needs torch ==2.14.0" in found.what
    assert "pair" in found.todo
    assert setup.check_pair("2.14.0+cu128", "0.29.0").level == "ok"


def test_two_builds_are_no_pair(monkeypatch):
    monkeypatch.setattr(setup, "_requirements", lambda package: [])
    assert "two different builds" in setup.check_pair("2.15.0+cpu", "0.29.2+cu128").what


def test_a_torchvision_that_cannot_be_loaded(monkeypatch):
    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(setup.importlib, "import_module", fail)
    found = setup.check_pair("2.15.0", "0.29.2")
    assert (found.level, "nms does not exist" in found.what) == ("problem", True)


def test_packages_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr(setup.importlib.metadata, "requires", lambda package: ["numpy>=1", "no-such-package>=1"])
    lost = [one for one in setup.check_versions() if one.level == "problem"]
    assert [one.what for one in lost] == ["not installed: no-such-package"]


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_of_the_processor_is_named(tmp_path, monkeypatch, has):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(kernels, "has_bf16", lambda: has)
    (line,) = (one.what for one in setup.check_hardware(tmp_path) if "CPU thread" in one.what)
    assert line.endswith(", bfloat16" if has else "no bfloat16: its settings compute in float32")


def test_a_full_disk_is_a_problem(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1 << 20))
    found = list(setup.check_hardware(tmp_path / "not" / "there"))
    assert [one.what for one in found if one.level == "problem"] == [f"0.0 GiB free on the disk of {tmp_path}"]

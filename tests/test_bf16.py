"""bfloat16 on a processor without it: a warning, float32, and rows that say so."""

import pytest
import torch

import kernels
from model.predict import autocast
from pipeline.grounding import registry
from pipeline.grounding.config import GroundConfig
from pipeline.regions.config import RegionsConfig, open_net

CPU = torch.device("cpu")


def test_float32_replaces_it(monkeypatch):
    monkeypatch.setattr(kernels, "has_bf16", lambda: False)
    with pytest.warns(UserWarning, match="this processor has no bfloat16"), autocast(CPU, "bf16"):
        assert not torch.is_autocast_enabled("cpu")
    with pytest.warns(UserWarning, match="computing in float32"):
        net = open_net(RegionsConfig(dtype="bfloat16", device="cpu"))
    assert (net.dtype, net.identity["dtype"]) == (torch.float32, "float32")
    assert kernels.usable_dtype("bfloat16", "cuda:0") == "bfloat16"
    assert kernels.usable_dtype("float16", "cpu") == "float16"


def test_a_grounder_gets_the_usable_dtype(monkeypatch):
    opened = []
    monkeypatch.setattr(kernels, "has_bf16", lambda: False)
    monkeypatch.setattr(registry.importlib, "import_module", lambda name: Module(opened))
    with pytest.warns(UserWarning, match="computing in float32"):
        registry.open_grounder(GroundConfig(grounder="owlv2", dtype="bfloat16", device="cpu"))
    assert opened == ["float32"]


class Module:
    def __init__(self, opened):
        self.opened, self.identity = opened, {}

    def open_grounder(self, config):
        self.opened.append(config.dtype)
        return self


def test_a_processor_with_it_computes_in_it(monkeypatch):
    monkeypatch.setattr(kernels, "has_bf16", lambda: True)
    assert open_net(RegionsConfig(dtype="bfloat16", device="cpu")).identity["dtype"] == "bfloat16"
    with autocast(CPU, "bf16"):
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")


def test_the_processor_is_asked(monkeypatch):
    for has in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
        assert kernels.has_bf16() == has

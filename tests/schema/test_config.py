from typing import Literal

import pytest

from schema.config import Config
from schema.errors import ConfigError


class Inner(Config):
    depth: int = 1


class Example(Config):
    crop_px: int = 224
    net: Literal["a", "b"] = "a"
    inner: Inner = Inner()


PRESETS = {"small": Example(crop_px=64)}


def test_a_preset_and_what_overrides_it():
    config = Example.from_section({"preset": "small", "net": "b"}, "data.smoke.regions", PRESETS)
    assert (config.crop_px, config.net) == (64, "b")


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(ConfigError, match=r"params.yaml data.smoke.regions.crop: unknown key, did you mean crop_px\?"):
        Example.from_section({"crop": 3}, "data.smoke.regions", PRESETS)
    with pytest.raises(ConfigError, match=r"params.yaml r.inner.dept: unknown key, did you mean depth\?"):
        Example.from_section({"inner": {"dept": 3}}, "r", PRESETS)


def test_values_of_the_wrong_kind_name_what_was_found():
    with pytest.raises(ConfigError, match=r"params.yaml r.crop_px: .*valid integer.*found 'wide'"):
        Example.from_section({"crop_px": "wide"}, "r", PRESETS)


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(ConfigError, match="r: unknown preset 'big'; use one of small"):
        Example.from_section({"preset": "big"}, "r", PRESETS)


def test_configurations_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Example().crop_px = 3

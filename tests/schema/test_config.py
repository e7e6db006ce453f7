from typing import Literal, Self

import pytest
from pydantic import Field, model_validator

from schema.config import Config
from schema.errors import ConfigError


class Inner(Config):
    depth: int = 1


class Example(Config):
    crop_px: int = 224
    net: Literal["a", "b"] = "a"
    inner: Inner = Inner()
    many: dict[str, Inner] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.net == "b" and self.crop_px > 9999:
            raise ValueError(f"net b takes no crop of {self.crop_px} pixels")
        return self


PRESETS = {"small": Example(crop_px=64)}


def test_a_preset_and_what_overrides_it():
    config = Example.from_section({"preset": "small", "net": "b"}, "data.smoke.regions", PRESETS)
    assert (config.crop_px, config.net) == (64, "b")
    assert config.model_fields_set == {"net"}, "what the preset gives is not named"
    assert config == Example(crop_px=64, net="b")


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(ConfigError, match=r"params.yaml data.smoke.regions.crop: unknown key, did you mean crop_px\?"):
        Example.from_section({"crop": 3}, "data.smoke.regions", PRESETS)
    with pytest.raises(ConfigError, match=r"params.yaml r.inner.dept: unknown key, did you mean depth\?"):
        Example.from_section({"inner": {"dept": 3}}, "r", PRESETS)
    with pytest.raises(ConfigError, match=r"params.yaml r.many.x.dept: unknown key, did you mean depth\?"):
        Example.from_section({"many": {"x": {"dept": 3}}}, "r", {})
    with pytest.raises(ConfigError, match=r"params.yaml r.presett: unknown key, did you mean preset\?"):
        Example.from_section({"presett": "small"}, "r", PRESETS)


def test_an_unknown_key_that_is_like_none_names_them_all():
    with pytest.raises(ConfigError, match=r"r.colour: unknown key, known are crop_px, net, inner, many, preset$"):
        Example.from_section({"colour": 3}, "r", PRESETS)
    with pytest.raises(ConfigError, match=r"r.colour: unknown key, known are crop_px, net, inner, many$"):
        Example.checked({"colour": 3}, "r")  # where no preset can be named


def test_fields_that_do_not_fit_together_are_said_in_our_words_alone():
    with pytest.raises(ConfigError, match=r"^params.yaml r: net b takes no crop of 10000 pixels$"):
        Example.from_section({"net": "b", "crop_px": 10000}, "r", PRESETS)


def test_long_values_are_not_printed_whole():
    with pytest.raises(ConfigError) as caught:
        Example.from_section({"crop_px": "wide" * 1000, "net": ["c"] * 500}, "r", PRESETS)
    assert len(str(caught.value)) < 400


def test_values_of_the_wrong_kind_name_what_was_found():
    with pytest.raises(ConfigError, match=r"params.yaml r.crop_px: .*valid integer.*found 'wide'"):
        Example.from_section({"crop_px": "wide"}, "r", PRESETS)


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(ConfigError, match="r: unknown preset 'big'; use one of small"):
        Example.from_section({"preset": "big"}, "r", PRESETS)


def test_configurations_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Example().crop_px = 3

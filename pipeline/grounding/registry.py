"""The one place that knows all grounders by name. A grounder's module is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from cache import weights
from pipeline.grounding.config import WEIGHTS, GroundConfig
from pipeline.grounding.grounder import Grounder
from schema.errors import ConfigError, WeightsError

ANY_DTYPE = ("owlv2", "grounding-dino")


def build_grounder(config: GroundConfig) -> Grounder:
    """The grounder that a configuration names.

    Raises WeightsError when its weights are missing, of another network, or others than `config.digest` names;
    ConfigError for a dtype that it does not compute in; those without weights compute in none.
    """
    if config.dtype != "float32" and WEIGHTS[config.grounder] and config.grounder not in ANY_DTYPE:
        raise ConfigError(f"{config.grounder} computes in float32", found=config.dtype, todo="leave dtype out")
    grounder = GROUNDERS[config.grounder](config)
    found = grounder.identity.get("weights", "")
    if config.digest and config.digest != found:
        raise WeightsError(
            f"the {config.grounder} grounder is not the one that ground.digest names",
            where=config.source(),
            found=found or "a grounder without weights",
            todo="fetch the model again, or name the digest of the one you mean",
        )
    return grounder


def _whole_image(config: GroundConfig) -> Grounder:
    from pipeline.grounding.controls import WholeImage

    return WholeImage()


def _random(config: GroundConfig) -> Grounder:
    from pipeline.grounding.controls import RandomBox

    return RandomBox()


def _toy(config: GroundConfig) -> Grounder:
    from pipeline.grounding.onestage.grounder import load_onestage

    return load_onestage(weights.find(config.source()), config.grounder, synthetic=True)


def _onestage(config: GroundConfig) -> Grounder:
    from pipeline.grounding.onestage.grounder import load

    return load(config)


def _owlv2(config: GroundConfig) -> Grounder:
    from pipeline.grounding import owlv2

    return owlv2.load(config)


def _grounding_dino(config: GroundConfig) -> Grounder:
    from pipeline.grounding import grounding_dino

    return grounding_dino.load(config)


GROUNDERS: dict[str, Callable[[GroundConfig], Grounder]] = {
    "toy-onestage": _toy,
    "onestage": _onestage,
    "owlv2": _owlv2,
    "grounding-dino": _grounding_dino,
    "random": _random,
    "whole-image": _whole_image,
}

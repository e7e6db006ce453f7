"""All grounders by name. A grounder's module is imported when the grounder is asked for."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.grounding.config import WEIGHTS, GroundConfig
from pipeline.grounding.grounder import Grounder, LazyGrounder
from schema.errors import ConfigError, WeightsError

ANY_DTYPE = ("owlv2", "grounding-dino")  # the others compute in float32, or in none


def open_grounder(config: GroundConfig) -> LazyGrounder:
    """The grounder that a configuration names, known by its digests; its weights are loaded for the first image.

    Raises WeightsError where its weights are missing or others than `config.digest` names, ConfigError for a dtype
    that it does not compute in.
    """
    if config.dtype != "float32" and WEIGHTS[config.grounder] and config.grounder not in ANY_DTYPE:
        raise ConfigError(f"{config.grounder} computes in float32", found=config.dtype, todo="leave dtype out")
    grounder = GROUNDERS[config.grounder](config)
    digest = grounder.identity.get("weights", "")
    if config.digest and config.digest != digest:
        raise WeightsError(
            f"the {config.grounder} grounder is not the one that ground.digest names",
            where=config.source(),
            found=digest or "a grounder without weights",
            todo="fetch the model again, or name the digest of the one you mean",
        )
    return grounder


def build_grounder(config: GroundConfig) -> Grounder:
    """The grounder that a configuration names, loaded; raises WeightsError also for weights of another network."""
    return open_grounder(config).load()


def _whole_image(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding.controls import WholeImage

    return LazyGrounder(WholeImage.identity, WholeImage)


def _random(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding.controls import RandomBox

    return LazyGrounder(RandomBox.identity, RandomBox)


def _detector(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding.detector import open_grounder

    return open_grounder(config)


def _synthetic(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding.onestage.grounder import open_synthetic

    return open_synthetic(config)


def _onestage(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding.onestage.grounder import open_grounder

    return open_grounder(config)


def _owlv2(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding.owlv2 import open_grounder

    return open_grounder(config)


def _grounding_dino(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding.grounding_dino import open_grounder

    return open_grounder(config)


GROUNDERS: dict[str, Callable[[GroundConfig], LazyGrounder]] = {
    "detector": _detector,
    "toy-onestage": _synthetic,
    "onestage": _onestage,
    "owlv2": _owlv2,
    "grounding-dino": _grounding_dino,
    "random": _random,
    "whole-image": _whole_image,
}

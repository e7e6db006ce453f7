"""All grounders by name; a new one needs its module and a line in GROUNDERS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cache.models import NANODET, ONESTAGE, SYNTHETIC_GROUNDER, ModelRef
from cache.models import Kind as ModelKind
from pipeline.grounding.config import DETECTOR_FILES, PRESETS, GroundConfig
from schema.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from pipeline.grounding.grounder import Grounder, LazyGrounder


def ground_config(section: Mapping[str, Any], where: str) -> GroundConfig:
    """The configuration of a params section, see `Config.from_section`; raises ConfigError for an unknown grounder."""
    config = GroundConfig.from_section(section, where, PRESETS)
    _entry(config, f"{where}.grounder")
    return config


def _entry(config: GroundConfig, where: str = "ground.grounder") -> GrounderEntry:
    if config.grounder not in GROUNDERS:
        todo = f"use one of {', '.join(GROUNDERS)}"
        raise ConfigError(f"unknown grounder {config.grounder!r}", where=where, todo=todo)
    return GROUNDERS[config.grounder]


def weights_of(config: GroundConfig) -> str:
    """The path or name of the weights, "" for a grounder without weights."""
    if config.grounder == "detector" and not config.weights:
        return DETECTOR_FILES.get(config.detector, NANODET)
    return config.weights or _entry(config).weights


def model_ref(config: GroundConfig) -> ModelRef | None:
    """The grounder's model; None for a grounder without one."""
    name, entry = weights_of(config), _entry(config)
    kind = "file" if entry.kind == "embedded" and name != entry.weights else entry.kind
    return ModelRef(name, "grounder", kind, digest=config.digest, revision=config.revision) if name else None


def open_grounder(config: GroundConfig) -> LazyGrounder:
    """The grounder that a configuration names, identified by its digests; its weights are loaded for the first image.

    Raises WeightsError where its weights are missing or are not those of `config.digest`, ConfigError for an unknown
    grounder, or a dtype in which it does not compute.
    """
    entry = _entry(config)
    if config.dtype != "float32" and entry.weights and not entry.any_dtype:
        raise ConfigError(f"{config.grounder} computes in float32", found=config.dtype, todo="leave dtype out")
    grounder = entry.open(config.model_copy(update={"weights": weights_of(config)}))
    digest = grounder.identity.get("weights", "")
    if config.digest and config.digest != digest:
        raise WeightsError(
            f"the {config.grounder} grounder is not the one that ground.digest names",
            where=weights_of(config),
            found=digest or "a grounder without weights",
            todo="fetch the model again, or name the digest of the one you mean",
        )
    return grounder


def build_grounder(config: GroundConfig) -> Grounder:
    """As `open_grounder`, loaded; raises WeightsError also for weights of another network."""
    return open_grounder(config).load()


def _detector(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding import detector  # late, as those below: a grounder's libraries are loaded when it is used

    return detector.open_grounder(config)


def _synthetic(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding.onestage import grounder

    return grounder.open_synthetic(config)


def _onestage(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding.onestage import grounder

    return grounder.open_grounder(config)


def _owlv2(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding import owlv2

    return owlv2.open_grounder(config)


def _grounding_dino(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding import grounding_dino

    return grounding_dino.open_grounder(config)


def _control(config: GroundConfig) -> LazyGrounder:
    from pipeline.grounding import controls

    return controls.open_grounder(config)


class GrounderEntry(NamedTuple):
    """How a grounder is opened, its default weights ("" for none), and which kind of model they are."""

    open: Callable[[GroundConfig], LazyGrounder]
    weights: str = ""
    kind: ModelKind = "embedded"
    any_dtype: bool = False  # False: it computes in float32 only


GROUNDERS = {
    "detector": GrounderEntry(_detector, NANODET),
    "synthetic-grounder": GrounderEntry(_synthetic, SYNTHETIC_GROUNDER),
    "onestage": GrounderEntry(_onestage, ONESTAGE, "converted"),
    "owlv2": GrounderEntry(_owlv2, "google/owlv2-base-patch16-ensemble", "hub", any_dtype=True),
    "grounding-dino": GrounderEntry(_grounding_dino, "IDEA-Research/grounding-dino-tiny", "hub", any_dtype=True),
    "random": GrounderEntry(_control),
    "whole-image": GrounderEntry(_control),
}

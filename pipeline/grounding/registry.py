"""All grounders by name; a new one needs its module and a line in GROUNDERS."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cache.models import NANODET, ONESTAGE, SYNTHETIC_GROUNDER, ModelRef
from cache.models import Kind as ModelKind
from kernels import usable_dtype
from pipeline.grounding.config import DETECTOR_FILES, PRESETS, GroundConfig
from schema.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from pipeline.grounding.grounder import Grounder, LazyGrounder


class GrounderEntry(NamedTuple):
    """The module whose `open_grounder` opens a grounder, its default weights ("" for none) and their kind."""

    module: str  # imported when the grounder is opened, since it loads its libraries
    weights: str = ""
    kind: ModelKind = "embedded"
    any_dtype: bool = False  # False: it computes in float32 only


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


def open_grounder(config: GroundConfig) -> "LazyGrounder":
    """The grounder that a configuration names, identified by its digests; its weights are loaded for the first image.

    Raises WeightsError where its weights are missing or are not those of `config.digest`, ConfigError for an unknown
    grounder, or a dtype in which it does not compute.
    """
    entry = _entry(config)
    if config.dtype != "float32" and entry.weights and not entry.any_dtype:
        raise ConfigError(f"{config.grounder} computes in float32", found=config.dtype, todo="leave dtype out")
    module = importlib.import_module(entry.module)
    update = {"weights": weights_of(config), "dtype": usable_dtype(config.dtype, config.torch_device())}
    grounder: LazyGrounder = module.open_grounder(config.model_copy(update=update))
    digest = grounder.identity.get("weights", "")
    if config.digest and config.digest != digest:
        what = f"the {config.grounder} grounder does not match ground.digest"
        todo = "fetch the model again, or set ground.digest to the digest of this model"
        found = digest or "a grounder without weights"
        raise WeightsError(what, where=weights_of(config), found=found, todo=todo)
    return grounder


def build_grounder(config: GroundConfig) -> "Grounder":
    """As `open_grounder`, loaded; raises WeightsError also for weights of a different network."""
    return open_grounder(config).load()


CONTROLS, ONE_STAGE = "pipeline.grounding.controls", "pipeline.grounding.onestage.grounder"
OWLV2, GROUNDING_DINO = "google/owlv2-base-patch16-ensemble", "IDEA-Research/grounding-dino-tiny"
GROUNDERS = {
    "detector": GrounderEntry("pipeline.grounding.detector", NANODET),
    "synthetic-grounder": GrounderEntry(ONE_STAGE, SYNTHETIC_GROUNDER),
    "onestage": GrounderEntry(ONE_STAGE, ONESTAGE, "converted"),
    "owlv2": GrounderEntry("pipeline.grounding.owlv2", OWLV2, "hub", any_dtype=True),
    "grounding-dino": GrounderEntry("pipeline.grounding.grounding_dino", GROUNDING_DINO, "hub", any_dtype=True),
    "random": GrounderEntry(CONTROLS),
    "whole-image": GrounderEntry(CONTROLS),
}

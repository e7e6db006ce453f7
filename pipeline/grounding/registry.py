"""The one place that knows all grounders by name."""

from __future__ import annotations

from cache import weights
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import Grounder


def build_grounder(config: GroundConfig) -> Grounder:
    """The grounder that a configuration names; WeightsError when its weights are missing or of another network."""
    if config.grounder == "whole-image":
        from pipeline.grounding.whole_image import WholeImage

        return WholeImage()
    from pipeline.grounding.onestage_grounder import load_onestage

    return load_onestage(weights.find(config.weights or config.grounder), config.grounder, toy=True)

"""What the ground stage is told."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from pydantic import Field

from schema.config import Config


class GroundConfig(Config):
    """`allow_toy` and `n_phrases_max` change no row: they are part of no key."""

    grounder: Literal["toy-onestage", "whole-image"] = "toy-onestage"
    weights: str = ""  # a path, or the name of an embedded file; "" means the grounder's own
    allow_toy: bool = False  # let a part trained on drawings see other pictures; results are marked
    n_phrases_max: int = Field(default=32, ge=0)  # grounded of a post, in the order of its words; the rest is counted


PRESETS = MappingProxyType(
    {
        "embedded": GroundConfig(grounder="toy-onestage"),
        "tiny": GroundConfig(grounder="whole-image"),
    }
)

from pathlib import Path

import numpy as np
import pytest

from cache.keys import digest_file
from cache.weights import EMBEDDED, save_safetensors
from pipeline.grounding.config import PRESETS, GroundConfig
from pipeline.grounding.controls import RandomBox, WholeImage
from pipeline.grounding.detector import DetectorGrounder
from pipeline.grounding.onestage.grounder import OneStageGrounder
from pipeline.grounding.registry import build_grounder
from schema.errors import ConfigError, WeightsError

SYNTHETIC = PRESETS["synthetic"]


def replace(**changes: str) -> GroundConfig:
    return SYNTHETIC.model_copy(update=changes)


def test_names_build_their_grounders() -> None:
    assert isinstance(build_grounder(GroundConfig(grounder="whole-image")), WholeImage)
    assert isinstance(build_grounder(GroundConfig(grounder="random")), RandomBox)
    assert isinstance(build_grounder(GroundConfig()), DetectorGrounder)
    synthetic = build_grounder(SYNTHETIC)
    assert isinstance(synthetic, OneStageGrounder)
    assert synthetic.synthetic
    digest = digest_file(EMBEDDED / "synthetic-grounder.safetensors")
    assert synthetic.identity == {"name": "toy-onestage", "version": "1", "weights": digest}, "in keys of stored rows"


def test_weights_may_be_a_path_of_one_s_own(tmp_path: Path) -> None:
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes((EMBEDDED / "synthetic-grounder.safetensors").read_bytes())
    assert build_grounder(replace(weights=str(copy))).identity == build_grounder(SYNTHETIC).identity


def test_missing_and_foreign_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights 'nowhere'"):
        build_grounder(replace(weights="nowhere"))
    foreign = tmp_path / "foreign.safetensors"
    save_safetensors(foreign, {"a": np.zeros(3, np.float32)}, {"kind": "other"})
    with pytest.raises(
        WeightsError, match=r"foreign.*not the weights of a one-stage grounder \(found metadata \['kind'\]"
    ):
        build_grounder(replace(weights=str(foreign)))


def test_a_dtype_or_digest_that_a_grounder_has_not() -> None:
    with pytest.raises(ConfigError, match=r"synthetic-grounder computes in float32 \(found bfloat16\)"):
        build_grounder(replace(dtype="bfloat16"))
    assert build_grounder(GroundConfig(grounder="random", dtype="bfloat16"))  # a control beside a grounder in bfloat16
    with pytest.raises(WeightsError, match=r"does not match ground\.digest \(found a grounder without weights\)"):
        build_grounder(GroundConfig(grounder="random", digest="0" * 64))
    digest = digest_file(EMBEDDED / "synthetic-grounder.safetensors")
    assert build_grounder(replace(digest=digest)).synthetic

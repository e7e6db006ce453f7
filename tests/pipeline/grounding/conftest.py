"""Tiny models, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.grounding.onestage.release import convert
from tests.pipeline.grounding import checkpoints
from tests.pipeline.grounding import released as release


@pytest.fixture(scope="session")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.owlv2(tmp_path_factory.mktemp("owlv2"))


@pytest.fixture(scope="session")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.grounding_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted one-stage grounder with an LSTM."""
    folder = tmp_path_factory.mktemp("onestage")
    file, words = release.write(folder / "from")
    convert(file, folder / "to", words=words, size_px=64)
    return folder / "to"

"""Tiny models, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.grounding import checkpoints


@pytest.fixture(scope="session")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.owlv2(tmp_path_factory.mktemp("owlv2"))


@pytest.fixture(scope="session")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.grounding_dino(tmp_path_factory.mktemp("dino"))

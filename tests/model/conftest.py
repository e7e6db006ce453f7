"""A tiny encoder, a tiny dataset and a run trained on them, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from model import train
from tests.model.tiny import VOCABULARY, tiny_config, write_dataset, write_encoder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"), VOCABULARY)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """posts.parquet and pack."""
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="session")
def run_folder(encoder: Path, dataset: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FMIT, trained until it finds names."""
    out = tmp_path_factory.mktemp("runs") / "tiny-fmit-0"
    list(train.run(tiny_config(encoder, epochs=6), "fmit", 0, *dataset, out, out.parent / "resume", device="cpu"))
    return out

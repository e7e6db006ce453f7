"""The public API and the only joiner of the rooms: a project's stages, and trained runs that predict.

import fmit
model = fmit.load("runs/smoke-fmit-0")
for prediction in model.predict(posts, images="data/smoke/images"):
    print(prediction.entities)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schema.params import Params, read_params

if TYPE_CHECKING:
    from model.fit import EpochResult
    from pipeline.corpus.config import SourceConfig
    from pipeline.engine import Progress, Tally
    from pipeline.stages.ingest import IngestReport

__all__ = ["Project", "load"]


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml: where its files lie, and its stages as calls."""

    root: Path
    params: Params

    @classmethod
    def open(cls, params_path: Path = Path("params.yaml")) -> Project:
        return cls(params_path.resolve().parent, read_params(params_path))

    @property
    def store(self) -> Path:
        """Rows remembered across reruns: `$FMIT_STORE`, else `.fmit/store`."""
        return Path(os.environ.get("FMIT_STORE") or self.root / ".fmit" / "store")

    @property
    def resume(self) -> Path:
        """What a killed training goes on from."""
        return self.root / ".fmit" / "resume"

    def data(self, dataset: str) -> Path:
        """Raw files of a dataset."""
        return self.root / "data" / dataset

    def out(self, dataset: str, name: str) -> Path:
        """An out of a stage: `posts.parquet`, `phrases.parquet`, `boxes.parquet` or `pack`."""
        return self.root / "out" / dataset / name

    def run(self, dataset: str, approach: str, seed: int) -> Path:
        return self.root / "runs" / f"{dataset}-{approach}-{seed}"

    def draw(self, dataset: str, progress: Progress) -> str:
        """Draw a dataset of the project's own; returns its line."""
        from embedded import draw

        config = draw.DrawConfig.from_section(self.params.drawing(dataset), f"draw.{dataset}", draw.PRESETS)
        return draw.run(config, self.data(dataset), progress).line(dataset)

    def ingest(self, dataset: str, progress: Progress) -> IngestReport:
        """Raw files to posts.parquet."""
        from pipeline.stages import ingest

        return ingest.run(self.source(dataset), self.data(dataset), self.out(dataset, "posts.parquet"), progress)

    def source(self, dataset: str) -> SourceConfig:
        """How the dataset's raw files are written."""
        from pipeline.corpus.config import PRESETS, SourceConfig

        return SourceConfig.from_section(self.params.dataset(dataset).source, f"data.{dataset}.source", PRESETS)

    def phrases(self, dataset: str, progress: Progress) -> Tally:
        """posts.parquet to phrases.parquet."""
        from pipeline.phrases.config import PRESETS, PhrasesConfig
        from pipeline.stages import phrases

        config = PhrasesConfig.from_section(self.params.dataset(dataset).phrases, f"data.{dataset}.phrases", PRESETS)
        return phrases.run(
            config, self.out(dataset, "posts.parquet"), self.out(dataset, "phrases.parquet"), self.store, progress
        )

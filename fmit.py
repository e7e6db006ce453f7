"""The public API: a project's stages, and trained runs that predict.

import fmit
model = fmit.load("runs/smoke-fmit-0")
for prediction in model.predict(["Ann in Rome"]):
    print(prediction.entities)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from project import Project

if TYPE_CHECKING:
    from model.predict import Prediction, Run
    from pipeline.corpus.config import SourceConfig
    from pipeline.engine import Progress
    from pipeline.feature_pipeline import FeaturePipeline
    from schema.records import Post


__all__ = ["Model", "Project", "load"]

CHUNK_POSTS = 16  # predicted together: memory stays bounded however many posts come
CHUNK_CROPS = 16  # of a forward pass in prediction: one post fills most of it


class Model:
    """A trained run with the parts that made its features: posts with pictures in, predictions out."""

    def __init__(self, run: Run, *, allow_synthetic: bool = False) -> None:
        self.run, self.allow_synthetic = run, allow_synthetic

    @cached_property
    def pipeline(self) -> FeaturePipeline | None:
        """The parts that made the run's pack, or its grid; None for text only.

        A run that reads crops has a network of its own: parser and grounder are enough.
        """
        from pipeline.feature_pipeline import FeaturePipeline, Kind

        info = self.run.info
        if info.pack is None or info.config.objects == "none":
            return None
        kind: Kind = "boxes" if info.config.reads_crops else "features"
        if info.config.objects == "grid":
            kind = "grid"
        return FeaturePipeline.of_pack(
            info.pack.provenance, kind, allow_synthetic=self.allow_synthetic, batch=CHUNK_CROPS
        )

    def predict(
        self, posts: Iterable[Post | Mapping[str, Any] | str], images: Path | str | None = None
    ) -> Iterator[Prediction]:
        """Entities of posts, in order, a few posts at a time.

        `posts`: raw texts, or rows as in a JSONL file (`tokens` or `text`, `images`), or Post records; `images` is the
        folder of the pictures that they name (None: text alone). A picture that is missing or cannot be decoded is no
        error: its post's record says so (`prediction.post.images[0].state`). Raises DataError, SyntheticError, WeightsError.
        """
        from pipeline.corpus import jsonl
        from pipeline.corpus.reader import Gallery, Ids, probed
        from schema.records import Post

        folder, waiting = _folder(images), iter(posts)
        gallery, ids, number = Gallery(folder), Ids(), 0
        while chunk := list(islice(waiting, CHUNK_POSTS)):
            rows = [one for one in chunk if not isinstance(one, Post)]
            made = probed(jsonl.from_rows(rows, self._source("jsonl"), number + 1), "predict", gallery, ids)
            number += len(chunk)
            yield from self._predict([one if isinstance(one, Post) else next(made) for one in chunk], folder)

    def predict_file(
        self,
        path: Path,
        *,
        images: Path | None = None,
        format: str | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Prediction]:
        """Predictions of a JSONL or CoNLL file's posts (`format` None: by suffix), in order and as they are made."""
        from pipeline.corpus.reader import Gallery, count_posts, read_posts_file

        source = self._source(format or ("jsonl" if path.suffix in (".jsonl", ".json") else "conll"))
        images = _folder(images)
        total = count_posts(path, source) if path.is_file() else 0  # what comes by a pipe can be read only once
        posts, done = read_posts_file(path, source, "predict", Gallery(images)), 0
        while chunk := list(islice(posts, CHUNK_POSTS)):
            yield from self._predict(chunk, images)
            done += len(chunk)
            if progress:
                progress(done, max(total, done))

    def _source(self, format: str) -> SourceConfig:
        from pipeline.corpus.config import SourceConfig

        labels = self.run.info.labels
        return SourceConfig.checked(
            {"format": format, "labels": dict(labels.words), "aliases": dict(labels.aliases)}, "source"
        )

    def _predict(self, posts: list[Post], images: Path | None) -> list[Prediction]:
        if self.pipeline is None:
            return self.run.predict(posts)
        objects = self.pipeline.objects(posts, self.run.info.labels, images or Path())
        return self.run.predict(posts, objects, images=images or Path())


def _folder(images: Path | str | None) -> Path | None:
    """A folder of pictures that is there, or None; a wrong path would leave every post without its picture."""
    from schema.errors import DataError

    if images is not None and not Path(images).is_dir():
        raise DataError("no folder of pictures", where=str(images), todo="name another, or none for text alone")
    return None if images is None else Path(images)


def load(run: Path | str, *, device: str = "auto", allow_synthetic: bool = False) -> Model:
    """A trained run from its folder; raises RunError where it is incomplete. Needs no network."""
    from model.predict import Run

    return Model(Run.load(run, device), allow_synthetic=allow_synthetic)

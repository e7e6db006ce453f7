"""The public API: a project's stages, and trained runs that predict.

import fmit
model = fmit.load("runs/smoke-fmit-0")
for prediction in model.predict(["Ann in Rome"]):
    print(prediction.entities)
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpus import jsonl
from pipeline.corpus.config import SourceConfig
from pipeline.corpus.reader import ImageFolder, count_posts, read_file, with_images
from pipeline.corpus.records import ReadLog
from pipeline.engine import Progress
from project import Project
from schema.errors import DataError
from schema.prediction import Prediction
from schema.records import Post

if TYPE_CHECKING:  # these import torch
    from model.predict import Run
    from pipeline.feature_pipeline import FeaturePipeline

__all__ = ["Model", "Project", "load"]

CHUNK_POSTS = 16  # predicted together: memory stays bounded however many posts come
CHUNK_CROPS = 16  # of a forward pass in prediction: one post fills most of it


@dataclass
class Model:
    """A trained run with the parts that made its features: posts with images in, predictions out."""

    run: "Run"
    allow_synthetic: bool = False

    @cached_property
    def pipeline(self) -> "FeaturePipeline | None":
        """The parts that made the run's pack, its grid, or the boxes of its crops; None for text only."""
        from pipeline.feature_pipeline import FeaturePipeline, Kind

        info = self.run.info
        if info.pack is None or info.config.objects == "none":
            return None
        kind: Kind = "boxes" if info.config.reads_crops else "grid" if info.config.objects == "grid" else "features"
        allow = self.allow_synthetic
        return FeaturePipeline.of_pack(info.pack.provenance, kind, allow_synthetic=allow, batch=CHUNK_CROPS)

    def predict(
        self,
        posts: Iterable[Post | Mapping[str, Any] | str],
        images: Path | str | None = None,
        log: ReadLog | None = None,
    ) -> Iterator[Prediction]:
        """Entities of posts, in order, a few posts at a time.

        `posts`: texts, or rows as in a JSONL file (`tokens` or `text`, `images`), or Post records; `images` is the
        folder of the images that they name (None: only the text is used). An image that is missing or cannot be
        decoded is no error: `prediction.post.images[0].state` says so. `log` counts labels that do not fit and can
        leave out bad posts; by default a bad post raises DataError. Also raises SyntheticError and WeightsError.
        """
        source, log = self._source("jsonl"), log or ReadLog(foreign_labels=True)
        place = _folder(images)
        folder = ImageFolder(place, source.image_suffix)

        def read() -> Iterator[Post]:
            for number, post in enumerate(posts, start=1):
                if isinstance(post, Post):
                    yield post
                else:
                    yield from with_images(jsonl.posts_in_memory([post], source, log, number), "predict", folder, log)

        yield from self._predict(read(), place)

    def predict_file(
        self,
        path: Path,
        *,
        images: Path | None = None,
        format: str | None = None,
        progress: Progress | None = None,
        log: ReadLog | None = None,
    ) -> Iterator[Prediction]:
        """Predictions of a file's posts, in order and as they are made; see `predict`.

        `format`: conll, jsonl or text (a post per line); None: by suffix.
        """
        source = self._source(format or ("jsonl" if path.suffix in (".jsonl", ".json") else "conll"))
        images, log = _folder(images), log or ReadLog(foreign_labels=True)
        total = count_posts(path, source) if path.is_file() else 0  # a pipe can be read only once
        posts = read_file(path, source, "predict", ImageFolder(images, source.image_suffix), log)
        for done, prediction in enumerate(self._predict(posts, images), start=1):
            yield prediction
            if progress:
                progress(done, max(total, done))

    def _source(self, format: str) -> SourceConfig:
        """How the run's own posts were written: tag scheme, columns, fields, tokenizer."""
        labels, reading = self.run.info.labels, self.run.info.data.get("source", {})
        section = {**reading, "format": format, "labels": dict(labels.words), "aliases": dict(labels.aliases)}
        return SourceConfig.checked(section, "source")

    def _predict(self, posts: Iterator[Post], images: Path | None) -> Iterator[Prediction]:
        while chunk := list(islice(posts, CHUNK_POSTS)):
            if self.pipeline is None:
                yield from self.run.predict(chunk)
            else:
                objects = self.pipeline.objects(chunk, self.run.info.labels, images or Path())
                yield from self.run.predict(chunk, objects, images=images or Path())


def _folder(images: Path | str | None) -> Path | None:
    """The folder of images, or None; raises DataError for a wrong path: every post would lack its image."""
    if images is not None and not Path(images).is_dir():
        raise DataError(
            "the image folder does not exist",
            where=str(images),
            todo="give another folder, or None to use only the text",
        )
    return None if images is None else Path(images)


def load(run: Path | str, *, device: str = "auto", allow_synthetic: bool = False) -> Model:
    """A trained run from its folder; raises RunError where it is incomplete. Needs no network."""
    from model.predict import Run

    return Model(Run.load(run, device), allow_synthetic)

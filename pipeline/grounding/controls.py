"""Grounders that ignore the image, as baselines: what a model gains over their boxes comes from where a box lies."""

from collections.abc import Sequence

import numpy as np
import PIL.Image

from cache import keys
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import Grounder, LazyGrounder, ScoredBox

NO_SCORE = 0.0  # the box says nothing about the words
RANDOM_BOX_VERSION = "1"


class WholeImage(Grounder):
    """Every query gets the whole image with score 0."""

    identity = {"name": "whole-image", "version": "1"}  # noqa: RUF012

    def prepare(self, image: PIL.Image.Image) -> tuple[int, int]:
        return image.size

    def ground(self, images: Sequence[tuple[int, int]], queries: Sequence[Sequence[str]]) -> list[list[ScoredBox]]:
        whole = [ScoredBox((0.0, 0.0, float(width), float(height)), NO_SCORE) for width, height in images]
        return [[box] * len(texts) for box, texts in zip(whole, queries, strict=True)]


class RandomBox(Grounder):
    """Every query gets one of the image's boxes of whole pixels, all of them equally likely.

    The choice is a digest of pixels and text: the same on every machine and in any order.
    """

    identity = {"name": "random", "version": RANDOM_BOX_VERSION}  # noqa: RUF012

    def prepare(self, image: PIL.Image.Image) -> tuple[tuple[int, int], str]:
        return image.size, keys.digest_bytes(image.convert("RGB").tobytes())

    def ground(
        self, images: Sequence[tuple[tuple[int, int], str]], queries: Sequence[Sequence[str]]
    ) -> list[list[ScoredBox]]:
        return [[_random_box(*image, text) for text in texts] for image, texts in zip(images, queries, strict=True)]


def open_grounder(config: GroundConfig) -> LazyGrounder:
    """The control that the parameters name."""
    control = RandomBox if config.grounder == "random" else WholeImage
    return LazyGrounder(control.identity, control)


def _random_box(size: tuple[int, int], pixels: str, text: str) -> ScoredBox:
    digest = bytes.fromhex(keys.key("random-box", pixels=pixels, size=size, text=text, version=RANDOM_BOX_VERSION))
    a, b, c, d = np.frombuffer(digest, ">u8").tolist()  # 64 bits each: the bias of a remainder is below 1e-15
    (x0, x1), (y0, y1) = _edges(a, b, size[0]), _edges(c, d, size[1])
    return ScoredBox((float(x0), float(y0), float(x1), float(y1)), NO_SCORE)


def _edges(first: int, second: int, n_pixels: int) -> tuple[int, int]:
    """Two different ones of the n + 1 edges between pixels, in order."""
    start, end = first % (n_pixels + 1), second % n_pixels
    end += end >= start
    return min(start, end), max(start, end)

"""The grounder that always answers with the whole image: a baseline, and what needs no weights.

A control: boxes that look at nothing. What a model gains over them comes from where a grounder points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import PIL.Image

from cache import keys
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import Found, LazyGrounder

WHOLE_IMAGE_VERSION = "1"
WHOLE_IMAGE_SCORE = 0.0  # it says nothing about the words


class WholeImage:
    """Every query gets the whole image with score 0."""

    identity = {"name": "whole-image", "version": WHOLE_IMAGE_VERSION}  # noqa: RUF012
    synthetic = False
    merges = False

    def prepare(self, image: PIL.Image.Image) -> tuple[int, int]:
        """See Grounder."""
        return image.size

    def ground(self, images: Sequence[tuple[int, int]], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        """See Grounder."""
        whole = [Found((0.0, 0.0, float(width), float(height)), WHOLE_IMAGE_SCORE) for width, height in images]
        return [[found] * len(asked) for found, asked in zip(whole, queries, strict=True)]

    def is_cut(self, text: str) -> bool:
        """See Grounder."""
        return False


RANDOM_BOX_VERSION = "1"
RANDOM_BOX_SCORE = 0.0  # it says nothing about the words
N_BYTES = 8  # of the digest to a number: what a remainder favours is below 1e-15


@dataclass(frozen=True, slots=True)
class Seen:
    """An image's width and height in pixels, and the digest of its pixels."""

    size: tuple[int, int]
    digest: str


class RandomBox:
    """Every query gets one of the image's boxes of whole pixels, all of them equally likely.

    The draw is a digest of pixels and text: the same on every machine and in any order.
    """

    identity = {"name": "random", "version": RANDOM_BOX_VERSION}  # noqa: RUF012
    synthetic = False
    merges = False

    def prepare(self, image: PIL.Image.Image) -> Seen:
        """See Grounder."""
        return Seen(image.size, keys.digest_bytes(image.convert("RGB").tobytes()))

    def ground(self, images: Sequence[Seen], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        """See Grounder."""
        return [[_draw(seen, text) for text in asked] for seen, asked in zip(images, queries, strict=True)]

    def is_cut(self, text: str) -> bool:
        """See Grounder."""
        return False


def open_grounder(config: GroundConfig) -> LazyGrounder:
    """The control that the parameters name."""
    control = RandomBox if config.grounder == "random" else WholeImage
    return LazyGrounder(control.identity, control)


def _draw(seen: Seen, text: str) -> Found:
    drawn = bytes.fromhex(
        keys.key("random-box", pixels=seen.digest, size=seen.size, text=text, version=RANDOM_BOX_VERSION)
    )
    a, b, c, d = (int.from_bytes(drawn[at : at + N_BYTES], "big") for at in range(0, 4 * N_BYTES, N_BYTES))
    (x0, x1), (y0, y1) = _edges(a, b, seen.size[0]), _edges(c, d, seen.size[1])
    return Found((float(x0), float(y0), float(x1), float(y1)), RANDOM_BOX_SCORE)


def _edges(first: int, second: int, n_pixels: int) -> tuple[int, int]:
    """Two different ones of the n + 1 edges between pixels, in order."""
    one, other = first % (n_pixels + 1), second % n_pixels
    other += other >= one
    return min(one, other), max(one, other)

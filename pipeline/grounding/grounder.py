"""What every grounder gives: for each query of each picture its best box and that box's score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import PIL.Image


@dataclass(frozen=True, slots=True)
class Found:
    """The best box of a query: x0, y0, x1, y1 in pixels of the given picture, not yet clipped to it, and its score.

    Scores of one grounder compare with one another, within and across pictures; those of two grounders do not.
    """

    xyxy: tuple[float, float, float, float]
    score: float


class Grounder(Protocol):
    """Finds words in pictures. A row's numbers do not depend on the pictures and queries it comes with, unless
    `merges`: then on the queries of the same list, and on nothing else.
    """

    @property
    def identity(self) -> dict[str, str]:
        """Everything that changes the numbers: name, algorithm version, digest of the weights, dtype."""

    @property
    def toy(self) -> bool:
        """Whether it was trained on drawings only."""

    @property
    def merges(self) -> bool:
        """Whether the texts asked of one picture are read together, so that each one's answer depends on all."""

    def prepare(self, image: PIL.Image.Image) -> Any:
        """What `ground` takes for a picture. Threads call it while the pictures before are grounded."""

    def ground(self, images: Sequence[Any], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        """One list of boxes a picture, one box a query of that picture, in order: always a box, however low its score.

        `images` were prepared; `queries[i]` are the texts asked of `images[i]`, perhaps none.
        """

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than the grounder reads: its end is not looked for."""


def ground_images(
    grounder: Grounder, images: Sequence[PIL.Image.Image], queries: Sequence[Sequence[str]]
) -> list[list[Found]]:
    """`ground` of pictures that nobody has prepared."""
    return grounder.ground([grounder.prepare(image) for image in images], queries)

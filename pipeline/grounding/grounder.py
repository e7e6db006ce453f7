"""What every grounder provides: for each query of each image its best box and that box's score.

With it what grounders share: loading at first use, batches of one shape, deterministic inference, images letterboxed to
a square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple, Protocol

import numpy as np
import PIL.Image
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Found:
    """The best box of a query: x0, y0, x1, y1 in pixels of the given image, not clipped to it yet, and its score.

    Scores of one grounder are comparable, within and across images; those of two grounders are not.
    """

    xyxy: tuple[float, float, float, float]
    score: float


class Grounder(Protocol):
    """Finds texts in images.

    A row's numbers do not depend on the images and queries it comes with. A grounder that `merges` is the exception:
    they depend on the queries of the same list, and on nothing else.
    """

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that changes the numbers: name, algorithm version, digest of the weights, dtype."""

    @property
    def synthetic(self) -> bool:
        """Whether it was trained on drawings only."""

    @property
    def merges(self) -> bool:
        """Whether the texts asked of one image are read together, so that each one's answer depends on all."""

    def prepare(self, image: PIL.Image.Image) -> Any:
        """What `ground` takes for an image. Threads call it while earlier images are grounded."""

    def ground(self, images: Sequence[Any], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        """One list of boxes per image, one box per query of that image, in order: always a box, however low its score.

        `images` were prepared; `queries[i]` are the texts asked of `images[i]`, perhaps none.
        """

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than the grounder reads: its end is ignored."""


class LazyGrounder:
    """A grounder that is loaded for the first image; what names its rows is known before.

    `is_cut` may be given where a vocabulary alone decides it; else the grounder is loaded for it.
    """

    def __init__(
        self,
        identity: Mapping[str, str],
        load: Callable[[], Grounder],
        *,
        synthetic: bool = False,
        merges: bool = False,
        is_cut: Callable[[str], bool] | None = None,
    ) -> None:
        self.identity, self.synthetic, self.merges = dict(identity), synthetic, merges
        self._load, self._is_cut = load, is_cut
        self._lock = Lock()  # threads prepare images
        self._grounder: Grounder | None = None

    def load(self) -> Grounder:
        """The grounder itself; raises WeightsError where its weights cannot be read."""
        with self._lock:
            if self._grounder is None:
                self._grounder = self._load()
            return self._grounder

    def prepare(self, image: PIL.Image.Image) -> Any:
        """See Grounder."""
        return self.load().prepare(image)

    def ground(self, images: Sequence[Any], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        """See Grounder."""
        return self.load().ground(images, queries)

    def is_cut(self, text: str) -> bool:
        """See Grounder."""
        return (self._is_cut or self.load().is_cut)(text)


def ground_images(
    grounder: Grounder, images: Sequence[PIL.Image.Image], queries: Sequence[Sequence[str]]
) -> list[list[Found]]:
    """`ground` of images that are not prepared yet."""
    return grounder.ground([grounder.prepare(image) for image in images], queries)


def filled(rows: Tensor, n_rows: int) -> Tensor:
    """Rows up to n_rows, the missing ones repeating the first: a pass has one shape."""
    return torch.cat([rows, rows[:1].expand(n_rows - len(rows), *rows.shape[1:])])


@contextmanager
def exact() -> Iterator[None]:
    """No gradients; on a GPU no TF32 and no kernels chosen by the clock: rows must not depend on card and day."""
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        yield


MEAN, STD = 0.5, 0.25  # of pixel values in 0..1, ours: the same for all channels; the padding is MEAN, so 0 after it
# The one-stage toolkit's: ImageNet's, and the padding that its letterbox draws, in 0..255.
PAPER_MEAN, PAPER_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PAPER_PADDING = (124, 116, 104)


class Boxed(NamedTuple):
    """float32 [3, size, size] standardised; a box of the image times `scale` plus `offset` is the square's."""

    pixels: np.ndarray
    scale: float
    offset: tuple[float, float]


def letterbox(image: PIL.Image.Image, size_px: int) -> Boxed:
    """The image scaled to fit and centred."""
    scale = size_px / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    x, y = (size_px - width) // 2, (size_px - height) // 2
    square = np.zeros((3, size_px, size_px), np.float32)
    small = image.convert("RGB").resize((width, height), PIL.Image.Resampling.BILINEAR)
    pixels = (np.asarray(small, np.float32) / 255.0 - MEAN) / STD
    square[:, y : y + height, x : x + width] = pixels.transpose(2, 0, 1)
    return Boxed(square, scale, (x, y))


def paper_letterbox(image: PIL.Image.Image, size_px: int) -> Boxed:
    """As the toolkit of Yang et al. (2019) does it: resized by area, centred on ImageNet's mean colour.

    Half a pixel of padding counts in the offset, as in the boxes that the network was trained on.
    """
    scale = size_px / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    x, y = (size_px - width) // 2, (size_px - height) // 2
    square = np.empty((size_px, size_px, 3), np.float32)
    square[:] = PAPER_PADDING
    square[y : y + height, x : x + width] = by_area(np.asarray(image.convert("RGB")), width, height)
    pixels = (square / 255.0 - np.array(PAPER_MEAN, np.float32)) / np.array(PAPER_STD, np.float32)
    offset = ((size_px - width) / 2, (size_px - height) / 2)
    return Boxed(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32), scale, offset)


def by_area(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 [rows, columns, 3] -> whole numbers 0..255 as float32 [height, width, 3].

    A new pixel is the mean of the old ones that it covers, each weighted by the covered share (OpenCV's INTER_AREA).
    """
    rows, columns, _ = pixels.shape
    fewer = _shares(rows, height) @ pixels.reshape(rows, columns * 3).astype(np.float32)
    return np.rint(_shares(columns, width) @ fewer.reshape(height, columns, 3))


def to_square(xyxy: np.ndarray, scale: float, offset: tuple[float, float]) -> np.ndarray:
    """Boxes [..., 4] of the image in the square's pixels."""
    return xyxy * scale + np.array([*offset, *offset])


def to_image(xyxy: np.ndarray, scale: float, offset: tuple[float, float]) -> np.ndarray:
    """Boxes [..., 4] of the square in the image's pixels; inverse of `to_square`."""
    return (xyxy - np.array([*offset, *offset])) / scale


def _shares(n_old: int, n_new: int) -> np.ndarray:
    """float32 [n_new, n_old]: how much of each new pixel lies on each old one."""
    edges, old = np.arange(n_new + 1) * (n_old / n_new), np.arange(n_old)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return (np.maximum(overlap, 0) * (n_new / n_old)).astype(np.float32)

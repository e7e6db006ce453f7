"""What every grounder provides: for each query of each image its best box and that box's score.

Also what grounders share: loading at first use, batches of one shape, deterministic inference.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import PIL.Image
import torch
from torch import Tensor

N_CACHED_TEXTS = 20_000  # texts whose vectors a grounder caches: general words and names come again and again


@dataclass(frozen=True, slots=True)
class ScoredBox:
    """The best box of a query: x0, y0, x1, y1 in pixels of the given image, not clipped to it yet, and its score.

    Scores of one grounder are comparable, within and across images; those of two grounders are not.
    """

    xyxy: tuple[float, float, float, float]
    score: float


class Grounder(Protocol):
    """Locates texts in images.

    A row's numbers do not depend on the images and queries in the same call. A grounder that `merges` is the exception:
    they depend on the queries of the same list, and on nothing else.
    """

    identity: Mapping[str, str]  # everything that changes the numbers: name, version, digest of the weights, dtype
    synthetic: bool = False  # whether it was trained on drawings only
    merges: bool = False  # whether the texts for one image are read together, so that each answer depends on all

    def prepare(self, image: PIL.Image.Image) -> Any:
        """The input of `ground` for an image. Threads call it while earlier images are grounded."""

    def ground(self, images: Sequence[Any], queries: Sequence[Sequence[str]]) -> Iterable[list[ScoredBox]]:
        """One list of boxes per image, one box per query of that image, in order: always a box, however low its score.

        `images` were prepared; `queries[i]` are the texts to locate in `images[i]`, perhaps none.
        """

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than the grounder reads, so that its end is ignored."""
        return False


class LazyGrounder(Grounder):
    """A grounder that is loaded for the first image; its identity is known before.

    `is_cut` may be given where a vocabulary is enough for it; otherwise the grounder is loaded.
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
        """Load and return the grounder; raises WeightsError where its weights cannot be read."""
        with self._lock:
            if self._grounder is None:
                self._grounder = self._load()
            return self._grounder

    def prepare(self, image: PIL.Image.Image) -> Any:
        return self.load().prepare(image)

    def ground(self, images: Sequence[Any], queries: Sequence[Sequence[str]]) -> Iterable[list[ScoredBox]]:
        return self.load().ground(images, queries)

    def is_cut(self, text: str) -> bool:
        return (self._is_cut or self.load().is_cut)(text)


class TextVectors:
    """The vectors [D] of texts, cached."""

    def __init__(self, read: Callable[[list[str]], Tensor]) -> None:
        self._read = read
        self._vectors: dict[str, Tensor] = {}

    def of(self, queries: Sequence[Sequence[str]], n_batch: int) -> Mapping[str, Tensor]:
        """The vectors of at least these texts, which are read in batches of exactly `n_batch`."""
        texts = dict.fromkeys(text for texts in queries for text in texts)
        if len(self._vectors) + len(texts) > N_CACHED_TEXTS:
            self._vectors.clear()
        new = [text for text in texts if text not in self._vectors]
        for start in range(0, len(new), n_batch):
            part = new[start : start + n_batch]
            padded = part + part[:1] * (n_batch - len(part))
            self._vectors.update(zip(part, self._read(padded), strict=False))
        return self._vectors


def ground_images(
    grounder: Grounder, images: Sequence[PIL.Image.Image], queries: Sequence[Sequence[str]]
) -> list[list[ScoredBox]]:
    """`ground` of images that are not prepared yet."""
    return list(grounder.ground([grounder.prepare(image) for image in images], queries))


def pad_batch(rows: Tensor, n_rows: int) -> Tensor:
    """The rows, the first one repeated up to `n_rows`: batches have one shape, which a row's last bits depend on."""
    return torch.cat([rows, rows[:1].expand(n_rows - len(rows), *rows.shape[1:])])


@contextmanager
def deterministic_inference() -> Iterator[None]:
    """No gradients; on a GPU neither TF32 nor kernels chosen by timing, so that rows depend on neither card nor day."""
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        yield

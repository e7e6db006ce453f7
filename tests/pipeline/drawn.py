"""A small dataset of images that count as drawn, and parts that count what they are asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from pipeline.grounding.grounder import ScoredBox
from schema.labels import LabelSet
from schema.records import Box, Image, Phrase, Post, PostPhrases, Region, Span, joined
from vision import images
from vision.crops import Transform

LABELS = LabelSet({"PER": "person", "LOC": "place"}, {})


def make_image(folder: Path, name: str, width: int = 30, height: int = 20, seed: int = 0, drawn: bool = True) -> Image:
    """A PNG of noise, written and probed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    chunks = PngInfo()
    if drawn:
        chunks.add_text(images.DRAWN_KEY, "1")
    folder.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(folder / name, "PNG", pnginfo=chunks)
    return images.probe(folder, name)


def post(post_id: str, *pil_images: Image, words: str = "a tiny dog in Paris") -> Post:
    text, offsets = joined(words.split())
    return Post(post_id, "train", tuple(words.split()), text, offsets, None, pil_images)


def phrases(post_id: str, *spans: tuple[int, int], words: str = "a tiny dog in Paris") -> PostPhrases:
    listed = [Phrase(Span(*span), " ".join(words.split()[slice(*span)])) for span in spans]
    return PostPhrases(post_id, tuple(listed))


class FakeGrounder:
    """Every text has its box and score; what was asked is written down."""

    synthetic = False
    merges = False

    def __init__(self, answers: dict[str, ScoredBox] | None = None, version: str = "1") -> None:
        self.identity = {"name": "fake", "version": version}
        self.answers = answers or {}
        self.calls: list[tuple[int, list[list[str]]]] = []

    @property
    def n_asked(self) -> int:
        return sum(len(texts) for _, listed in self.calls for texts in listed)

    def prepare(self, image: PIL.Image.Image) -> PIL.Image.Image:
        return image

    def is_cut(self, text: str) -> bool:
        return len(text) > 100

    def ground(self, pil_images: Sequence[PIL.Image.Image], queries: Sequence[Sequence[str]]) -> list[list[ScoredBox]]:
        self.calls.append((len(pil_images), [list(texts) for texts in queries]))
        return [
            [self.answers.get(text, self._default(image, text)) for text in texts]
            for image, texts in zip(pil_images, queries, strict=True)
        ]

    @staticmethod
    def _default(image: PIL.Image.Image, text: str) -> ScoredBox:
        first = image.getpixel((0, 0))[0]  # a score that depends on image and text
        return ScoredBox((1.0, 2.0, 3.0 + len(text) % 9, 9.0), (first * 7 + len(text)) % 100 / 100)


class FakeNet:
    """Features are the mean colour and the first pixel; shapes of batches are written down."""

    dim = 4
    transform = Transform(6, 6)
    device = torch.device("cpu")

    def __init__(self, version: str = "1") -> None:
        self.identity = {"name": "fake", "version": version, "transform": self.transform.identity}
        self.shapes: list[tuple[int, ...]] = []
        self.fail_at: int | None = None

    def forward(self, crops: Tensor) -> Tensor:
        if self.fail_at == len(self.shapes):
            raise KeyboardInterrupt
        self.shapes.append(tuple(crops.shape))
        pixels = crops.float()
        return torch.cat([pixels.mean((2, 3)), pixels[:, :1, 0, 0]], 1)

    def grid(self, crops: Tensor) -> Tensor:
        self.shapes.append(tuple(crops.shape))
        halves = torch.nn.functional.adaptive_avg_pool2d(crops.float(), 2)  # [N, 3, 2, 2]
        return torch.cat([halves, halves[:, :1]], 1).flatten(2).transpose(1, 2)


def feature(folder: Path, image: Image | None, box: Sequence[int] | None) -> np.ndarray:
    """What FakeNet must give, by Pillow alone."""
    whole = images.EMPTY if image is None else PIL.Image.open(folder / image.name).convert("RGB")
    part = whole.crop(tuple(box) if box else None)
    resized = part.resize([6 * side // min(part.size) for side in part.size], PIL.Image.Resampling.BILINEAR)
    left, top = (round((side - 6) / 2) for side in resized.size)
    pixels = np.asarray(resized.crop((left, top, left + 6, top + 6)))
    return np.array([*pixels.reshape(-1, 3).astype(np.float64).mean(0), pixels[0, 0, 0]])


def chosen(text: str, box: Sequence[int], span: tuple[int, int] | None = None, index: int = 0) -> Region:
    """A region that the fake grounder chose."""
    source = "general" if span is None else "phrase"
    return Region(source, text, Span(*span) if span else None, Box(*box, index), 0.5, False, "fake@1")


def by_post(regions: Iterable[tuple[str, Region]]) -> dict[str, list[Region]]:
    """Regions by post id, from pairs of both."""
    grouped: dict[str, list[Region]] = defaultdict(list)
    for post_id, one in regions:
        grouped[post_id].append(one)
    return dict(grouped)

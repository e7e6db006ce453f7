"""The one-stage network as a grounder: one pass per image, all its queries on that, batches of one fixed shape.

Two networks are opened: the small one trained on drawings, from an embedded file; and the published one (Yang et al.,
ICCV 2019), from a folder that `release.convert` wrote: `config.json`, `model.safetensors` and the words of its text
encoder, `vocab.txt` (BERT) or `words.txt` (LSTM). Shapes as in `network`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from cache import weights
from cache.keys import digest_file
from cache.models import ModelRef, digest_of
from pipeline.engine import batch_shape
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import (
    Grounder,
    LazyGrounder,
    ScoredBox,
    TextVectors,
    deterministic_inference,
    pad_batch,
)
from pipeline.grounding.onestage.network import Darknet, Head, OneStage, Sizes, conv, small_network
from pipeline.grounding.onestage.text import BertText, Corpus, LstmText, Pieces
from schema.errors import WeightsError
from vision.torch_files import load_state, read_state

VERSION = "1"  # of everything between an image and its boxes that the weights' digest does not cover
SYNTHETIC_NAME = "toy-onestage"  # in keys of stored rows, so it keeps its first value: another would recompute them all
N_IMAGES, N_QUERIES = 4, 8  # of a pass: fixed, since a row's last bits depend on the batch's shape, not its content
N_THREADS = (
    1  # of the small network: the last bits depend on it too, and small layers lose more to waiting than they gain
)
N_WORDS = 6  # of a query that reach the network; the rest of the known words is cut
PAD, UNKNOWN = "<pad>", "<unk>"

MEAN, STD = 0.5, 0.25  # of pixel values in 0..1, ours: the same for all channels; the padding is MEAN, so 0 after it
# The published toolkit's: ImageNet's, and the color of its padding in 0..255
PAPER_MEAN, PAPER_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PAPER_PADDING = (124, 116, 104)

PAPER_VERSION = "1"  # as VERSION, of the published network
FORMAT = 1  # of config.json
MODEL_TYPE = "onestage"
FILES = {"bert": "vocab.txt", "lstm": "words.txt"}
PUBLISHED = "https://github.com/zyang-ur/onestage_grounding"


class Letterboxed(NamedTuple):
    """float32 [3, size, size] standardized; a box of the image times `scale` plus `offset` is the square's."""

    pixels: np.ndarray
    scale: float
    offset: tuple[float, float]


def letterbox(image: PIL.Image.Image, size_px: int, *, paper: bool = False) -> Letterboxed:
    """The image scaled to fit a square and centered.

    `paper`: as in the toolkit of Yang et al. (2019), resized by area, on ImageNet's mean color. Half a pixel of
    padding counts in the offset, as in the boxes that the network was trained on.
    """
    scale = size_px / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    x, y = (size_px - width) // 2, (size_px - height) // 2
    rgb, offset = image.convert("RGB"), (float(x), float(y))
    square = np.empty((size_px, size_px, 3), np.float32)
    if paper:
        small, offset = by_area(np.asarray(rgb), width, height), ((size_px - width) / 2, (size_px - height) / 2)
        square[:], mean, std = PAPER_PADDING, np.array(PAPER_MEAN, np.float32), np.array(PAPER_STD, np.float32)
    else:
        small = np.asarray(rgb.resize((width, height), PIL.Image.Resampling.BILINEAR))
        square[:], mean, std = 255 * MEAN, np.array(MEAN, np.float32), np.array(STD, np.float32)
    square[y : y + height, x : x + width] = small
    pixels = (square / 255.0 - mean) / std
    return Letterboxed(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32), scale, offset)


def by_area(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 [rows, columns, 3] -> whole numbers 0..255 as float32 [height, width, 3].

    A new pixel is the mean of the old ones that it covers, each weighted by the covered share (OpenCV's INTER_AREA).
    """
    rows, columns, _ = pixels.shape
    fewer = _shares(rows, height) @ pixels.reshape(rows, columns * 3).astype(np.float32)
    return np.rint(_shares(columns, width) @ fewer.reshape(height, columns, 3))


def _shares(n_old: int, n_new: int) -> np.ndarray:
    """float32 [n_new, n_old]: how much of each new pixel lies on each old one."""
    edges, old = np.arange(n_new + 1) * (n_old / n_new), np.arange(n_old)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return (np.maximum(overlap, 0) * (n_new / n_old)).astype(np.float32)


def to_square(xyxy: np.ndarray, scale: float, offset: tuple[float, float]) -> np.ndarray:
    """Boxes [..., 4] of the image in the square's pixels."""
    return xyxy * scale + np.array([*offset, *offset])


class Vocabulary:
    """The words that the network trained on drawings knows; a word's index is its id."""

    def __init__(self, words: Sequence[str]) -> None:
        if list(words[:2]) != [PAD, UNKNOWN] or len(set(words)) != len(words):
            raise WeightsError(
                "a vocabulary must start with <pad> and <unk> and must not repeat a word", found=str(words[:3])
            )
        self.words = tuple(words)
        self._ids = {word: index for index, word in enumerate(words)}

    def encode(self, text: str) -> list[int]:
        """N_WORDS ids of the known words in order, padded; `<unk>` once where there are none.

        So unknown words, names among them, never change an answer.
        """
        ids = self._known(text)[:N_WORDS] or [self._ids[UNKNOWN]]
        return ids + [self._ids[PAD]] * (N_WORDS - len(ids))

    def is_cut(self, text: str) -> bool:
        return len(self._known(text)) > N_WORDS

    def _known(self, text: str) -> list[int]:
        words = ("".join(filter(str.isalnum, word)).lower() for word in text.split())
        return [self._ids[word] for word in words if word in self._ids]


class OneStageGrounder(Grounder):
    """A network in evaluation mode: that trained on drawings (`synthetic`) or the published one."""

    def __init__(
        self, network: OneStage, reader: Vocabulary | Pieces | Corpus, identity: Mapping[str, str], *, synthetic: bool
    ) -> None:
        self.network, self.reader = network.eval(), reader
        self.identity, self.synthetic = dict(identity), synthetic
        self._vectors = TextVectors(self._read)

    def prepare(self, image: PIL.Image.Image) -> Letterboxed:
        return letterbox(image, self.network.sizes.size_px, paper=not self.synthetic)

    def is_cut(self, text: str) -> bool:
        return self.reader.is_cut(text)

    def ground(self, images: Sequence[Letterboxed], queries: Sequence[Sequence[str]]) -> list[list[ScoredBox]]:
        n_threads = torch.get_num_threads()
        torch.set_num_threads(N_THREADS if self.synthetic else n_threads)
        try:
            with deterministic_inference():
                vectors = self._vectors.of(queries, N_QUERIES)
                parts = [slice(start, start + N_IMAGES) for start in range(0, len(images), N_IMAGES)]
                return [boxes for part in parts for boxes in self._ground(images[part], queries[part], vectors)]
        finally:
            torch.set_num_threads(n_threads)

    def _ground(
        self, images: Sequence[Letterboxed], queries: Sequence[Sequence[str]], vectors_of: Mapping[str, Tensor]
    ) -> list[list[ScoredBox]]:
        device = self.network.grid.device
        pixels = torch.from_numpy(np.stack([image.pixels for image in images]))
        maps = self.network.encode_images(pad_batch(pixels, batch_shape(len(images), N_IMAGES)).to(device))
        rows = [(i, text) for i, texts in enumerate(queries) for text in texts]
        boxes: list[list[ScoredBox]] = [[] for _ in images]
        for start in range(0, len(rows), N_QUERIES):
            part = rows[start : start + N_QUERIES]
            image = pad_batch(torch.tensor([i for i, _ in part]), N_QUERIES).to(device)
            vectors = pad_batch(torch.stack([vectors_of[text] for _, text in part]), N_QUERIES)
            answers = self.network.predict([x[image] for x in maps], vectors)
            scores, best = answers[..., 4].softmax(dim=1).max(dim=1)  # [Q], shares of all K answers
            squares = self.network.boxes(answers)[torch.arange(N_QUERIES), best].double().cpu().numpy()
            for (i, _), box, score in zip(part, squares, scores.double().tolist(), strict=False):
                x0, y0, x1, y1 = ((box - np.tile(images[i].offset, 2)) / images[i].scale).tolist()
                boxes[i].append(ScoredBox((x0, y0, x1, y1), score))
        return boxes

    def _read(self, texts: list[str]) -> Tensor:
        words = torch.tensor([self.reader.encode(text) for text in texts])
        return self.network.encoder(words.to(self.network.grid.device))


# The network trained on drawings


def architecture(sizes: Sizes, words: Sequence[str]) -> dict[str, str]:
    """Metadata of a weights file, from which `load_synthetic` rebuilds the network."""
    return {"sizes": json.dumps(asdict(sizes), sort_keys=True), "words": json.dumps(list(words))}


def load_synthetic(path: Path) -> OneStageGrounder:
    """The synthetic grounder, from a file that `architecture` describes; WeightsError for a different network."""
    _, metadata = weights.load_safetensors(path)
    if not {"sizes", "words"} <= metadata.keys():
        found = f"metadata {sorted(metadata)}"
        raise WeightsError("not the weights of a one-stage grounder", where=str(path), found=found)
    words = json.loads(metadata["words"])
    network = small_network(Sizes(**json.loads(metadata["sizes"])), len(words))
    load_state(network, read_state(path), "the one-stage grounder", path)
    return OneStageGrounder(network, Vocabulary(words), _identity(path), synthetic=True)


def _identity(path: Path) -> dict[str, str]:
    return {"name": SYNTHETIC_NAME, "version": VERSION, "weights": digest_file(path)}


# The published network


class PaperHead(Head):
    """Fusion by three convolutions, 1x1, 3x3 and 1x1, then a 1x1 to half the width and the answers; all with ReLUs."""

    def __init__(self, width: int, n_anchors: int) -> None:
        super().__init__(width, n_anchors)
        self.mixed = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            conv(width, width, 3, slope=0.0),
            conv(width, width, 1, slope=0.0),
            conv(width, width // 2, 1, slope=0.0),
        )
        self.answer: nn.Conv2d = nn.Conv2d(width // 2, self.answer.out_channels, 1)


def build(settings: dict[str, Any]) -> OneStage:
    """The network that `config.json` describes, with random weights.

    Darknet-53 and one of the two text encoders, whose vectors two layers bring to the common width.
    """
    sizes, text_sizes = Sizes(**settings["sizes"]), settings["text_sizes"]
    text = BertText(**text_sizes) if settings["text"] == "bert" else LstmText(**text_sizes)
    first, second = (
        (nn.Linear(n, sizes.width), nn.BatchNorm1d(sizes.width), nn.ReLU()) for n in (text.dim, sizes.width)
    )
    return OneStage(sizes, Darknet(sizes), nn.Sequential(text, *first, *second), PaperHead, max_log=math.inf)


def open_grounder(config: GroundConfig) -> LazyGrounder:
    """The grounder that the parameters name, its weights not loaded yet; raises WeightsError where they are missing."""
    if config.grounder == "synthetic-grounder":
        path = weights.find(config.weights)
        vocabulary = cache(lambda: Vocabulary(json.loads(weights.load_safetensors(path)[1]["words"])))
        load = partial(load_synthetic, path)
        return LazyGrounder(_identity(path), load, synthetic=True, is_cut=lambda text: vocabulary().is_cut(text))
    folder = ModelRef(config.weights, "grounder", "converted").locate()
    with _reading(folder):
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if settings.get("model_type") != MODEL_TYPE or settings.get("format") != FORMAT:
            found = f"{settings.get('model_type')}, format {settings.get('format')}"
            raise WeightsError("not a one-stage grounder that this version reads", where=str(folder), found=found)
        words = folder / FILES[settings["text"]]
        reader = Pieces(words) if settings["text"] == "bert" else Corpus(words.read_text("utf-8").splitlines())
    identity = {"name": config.grounder, "version": PAPER_VERSION, "weights": digest_of("converted", folder)}

    def load_published() -> OneStageGrounder:
        with _reading(folder):
            network = build(settings)
        path = folder / "model.safetensors"
        load_state(network, read_state(path), "the one-stage grounder", path)
        network.to(config.torch_device())
        return OneStageGrounder(network, reader, identity, synthetic=False)

    return LazyGrounder(identity, load_published, is_cut=reader.is_cut)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turn what damaged settings and words raise into a WeightsError."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"[:200]
        todo = f"get {PUBLISHED}'s .pth.tar, then: fmit models convert onestage FILE.pth.tar {folder}"
        raise WeightsError("the one-stage grounder is incomplete", where=str(folder), found=found, todo=todo) from None

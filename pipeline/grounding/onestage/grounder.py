"""A trained OneStage as a grounder: one pass an image, all its queries on that, batches of one fixed shape.

The one-stage grounder at its published size (Yang et al., ICCV 2019), from a folder that the converter wrote.

A folder holds `config.json`, `model.safetensors` and the words of its text encoder: `vocab.txt` (BERT) or `words.txt`.
Shapes as in `onestage`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn
from transformers import BertConfig

from cache import weights
from cache.keys import digest_file
from cache.models import ModelRef, digest_of
from cache.weights import load_safetensors
from pipeline.engine import batch_shape
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import (
    Boxed,
    Found,
    LazyGrounder,
    exact,
    filled,
    letterbox,
    paper_letterbox,
    to_image,
)
from pipeline.grounding.onestage.network import Darknet, Head, OneStage, Sizes, anchor_grid, conv, sizes_of
from pipeline.grounding.onestage.text import BertText, Corpus, LstmText, Pieces
from schema.errors import WeightsError

VERSION = "1"  # of everything between an image and its boxes that the weights' digest does not cover
SYNTHETIC_NAME = "toy-onestage"  # in keys of stored rows, so it keeps its first value: another would recompute them all
N_IMAGES, N_QUERIES = 4, 8  # of a pass: fixed, since the last bits of a row follow the batch's shape, not its content
N_THREADS = 1  # of a pass: the last bits follow it too, and small layers lose more to waiting than they gain
N_WORDS = 6  # of a query that reach the network; the rest of the known words is cut
N_REMEMBERED = 20_000  # texts whose vectors are kept: general words and names come again and again
PAD, UNKNOWN = "<pad>", "<unk>"


class Reader(Protocol):
    """Turns a text into the numbers that the network's text encoder takes."""

    def encode(self, text: str) -> list[int]:
        """As many numbers for every text, padded with 0."""

    def is_cut(self, text: str) -> bool:
        """Whether `encode` leaves out the text's end."""


class Vocabulary:
    """The words that the network knows; a word's index is its id."""

    def __init__(self, words: Sequence[str]) -> None:
        if list(words[:2]) != [PAD, UNKNOWN] or len(set(words)) != len(words):
            raise WeightsError("a vocabulary starts with <pad> and <unk> and repeats no word", found=str(words[:3]))
        self.words = tuple(words)
        self._ids = {word: index for index, word in enumerate(words)}

    def encode(self, text: str) -> list[int]:
        """N_WORDS ids of the known words in order, padded; `<unk>` once where there is none.

        Unknown words, names among them, thus never change an answer.
        """
        ids = self._known(text)[:N_WORDS] or [self._ids[UNKNOWN]]
        return ids + [self._ids[PAD]] * (N_WORDS - len(ids))

    def is_cut(self, text: str) -> bool:
        """Whether there are more known words than the network reads."""
        return len(self._known(text)) > N_WORDS

    def _known(self, text: str) -> list[int]:
        words = ("".join(filter(str.isalnum, word)).lower() for word in text.split())
        return [self._ids[word] for word in words if word in self._ids]


class OneStageGrounder:
    """Grounder over a OneStage network in evaluation mode. `n_threads`: of a pass on a CPU; None: as the caller has."""

    merges = False

    def __init__(
        self,
        network: OneStage,
        reader: Reader,
        identity: Mapping[str, str],
        *,
        synthetic: bool,
        box: Callable[[PIL.Image.Image, int], Boxed] = letterbox,
        n_threads: int | None = N_THREADS,
    ) -> None:
        self.network = network.eval()
        self.identity = dict(identity)
        self.synthetic = synthetic
        self.reader, self._box, self._n_threads = reader, box, n_threads
        self._queries: dict[str, Tensor] = {}

    def prepare(self, image: PIL.Image.Image) -> Boxed:
        """See Grounder."""
        return self._box(image, self.network.sizes.size_px)

    def is_cut(self, text: str) -> bool:
        """See Grounder."""
        return self.reader.is_cut(text)

    def ground(self, images: Sequence[Boxed], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        """See Grounder."""
        found: list[list[Found]] = []
        with exact(), _threads(self._n_threads):
            self._read(list(dict.fromkeys(text for asked in queries for text in asked)))
            for start in range(0, len(images), N_IMAGES):
                part = slice(start, start + N_IMAGES)
                found += self._ground(images[part], queries[part])
        return found

    def _ground(self, boxed: Sequence[Boxed], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        pixels = torch.from_numpy(np.stack([one.pixels for one in boxed]))
        n_images = batch_shape(len(boxed), N_IMAGES)
        seen = self.network.see(filled(pixels, n_images).to(self.network.grid.device))
        rows = [(i, text) for i, asked in enumerate(queries) for text in asked]
        found: list[list[Found]] = [[] for _ in boxed]
        for start in range(0, len(rows), N_QUERIES):
            part = rows[start : start + N_QUERIES]
            boxes, scores = self._ask(seen, part)
            for (i, _), box, score in zip(part, boxes, scores, strict=False):
                x0, y0, x1, y1 = to_image(box, boxed[i].scale, boxed[i].offset).tolist()
                found[i].append(Found((x0, y0, x1, y1), float(score)))
        return found

    def _ask(self, seen: list[Tensor], rows: Sequence[tuple[int, str]]) -> tuple[np.ndarray, np.ndarray]:
        """Best boxes float64 [Q, 4] in pixels of the square, and their scores [Q]: shares of a softmax over all K."""
        at = filled(torch.tensor([i for i, _ in rows]), N_QUERIES).to(seen[0].device)
        queries = filled(torch.stack([self._queries[text] for _, text in rows]), N_QUERIES)
        answers = self.network.answer([x[at] for x in seen], queries)
        scores, best = answers[..., 4].softmax(dim=1).max(dim=1)
        boxes = self.network.boxes(answers)[torch.arange(N_QUERIES), best]
        return boxes.double().cpu().numpy(), scores.double().cpu().numpy()

    def _read(self, texts: Sequence[str]) -> None:
        """Keep the vector [D] of every text."""
        if len(self._queries) + len(texts) > N_REMEMBERED:
            self._queries.clear()
        fresh = [text for text in texts if text not in self._queries]
        for start in range(0, len(fresh), N_QUERIES):
            part = fresh[start : start + N_QUERIES]
            words = filled(torch.tensor([self.reader.encode(text) for text in part]), N_QUERIES)
            self._queries |= zip(part, self.network.read(words.to(self.network.grid.device)), strict=False)


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    """This many of PyTorch's threads inside the block, or as many as before; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def architecture(sizes: Sizes, words: Sequence[str]) -> dict[str, str]:
    """Metadata of a weights file, from which `load_synthetic` rebuilds the network."""
    return {"sizes": json.dumps(asdict(sizes), sort_keys=True), "words": json.dumps(list(words))}


def load_synthetic(path: Path) -> OneStageGrounder:
    """The grounder trained on drawings, from a file that `architecture` describes; WeightsError for another network."""
    tensors, metadata = load_safetensors(path)
    if not {"sizes", "words"} <= metadata.keys():
        raise WeightsError("no weights of a one-stage grounder", where=str(path), found=f"metadata {sorted(metadata)}")
    words = json.loads(metadata["words"])
    network = OneStage(sizes_of(json.loads(metadata["sizes"])), len(words))
    try:
        network.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in tensors.items()})
    except RuntimeError as error:
        raise WeightsError("weights of another network", where=str(path), found=str(error).splitlines()[1]) from None
    return OneStageGrounder(network, Vocabulary(words), _identity(path), synthetic=True)


def open_synthetic(config: GroundConfig) -> LazyGrounder:
    """The grounder trained on drawings, its weights not loaded yet; raises WeightsError where they are missing."""
    path = weights.find(config.weights)
    return LazyGrounder(_identity(path), partial(load_synthetic, path), synthetic=True, is_cut=partial(_is_cut, path))


def _is_cut(path: Path, text: str) -> bool:
    return _vocabulary(path).is_cut(text)


@lru_cache(maxsize=1)
def _vocabulary(path: Path) -> Vocabulary:
    return Vocabulary(json.loads(load_safetensors(path)[1]["words"]))


def _identity(path: Path) -> dict[str, str]:
    return {"name": SYNTHETIC_NAME, "version": VERSION, "weights": digest_file(path)}


PAPER_VERSION = "1"  # of everything between an image and its boxes that the weights' digest does not cover
FORMAT = 1  # of config.json
MODEL_TYPE = "onestage"
FILES = {"bert": "vocab.txt", "lstm": "words.txt"}
PUBLISHED = "https://github.com/zyang-ur/onestage_grounding"


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


class PaperOneStage(OneStage):
    """The whole network: Darknet-53 and one of the two text encoders, brought to the common width by two layers."""

    max_log = math.inf

    def __init__(self, sizes: Sizes, text: BertText | LstmText) -> None:
        nn.Module.__init__(self)  # the parts of OneStage are others
        self.sizes = sizes
        self.backbone = Darknet(sizes)  # type: ignore[assignment]
        width = sizes.width
        first = [nn.Linear(text.dim, width), nn.BatchNorm1d(width), nn.ReLU()]
        self.encoder = nn.Sequential(text, *first, nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU())  # type: ignore[assignment]
        self.heads = nn.ModuleList(PaperHead(width, len(pairs)) for pairs in sizes.anchors)
        self.register_buffer("grid", anchor_grid(sizes), persistent=False)

    def read(self, words: Tensor) -> Tensor:
        """int64 [Q, W], 0 pads -> queries [Q, D]."""
        return self.encoder(words)


def build(settings: dict[str, Any]) -> PaperOneStage:
    """The network that `config.json` describes, with random weights."""
    kind, text = settings["text"], settings["text_sizes"]
    reader = BertText(BertConfig(**text)) if kind == "bert" else LstmText(**text)
    return PaperOneStage(sizes_of(settings["sizes"]), reader)


def open_grounder(config: GroundConfig) -> LazyGrounder:
    """The grounder from the folder that the parameters name; raises WeightsError."""
    folder = ModelRef(config.weights, "grounder", "converted").locate()
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if settings.get("model_type") != MODEL_TYPE or settings.get("format") != FORMAT:
            found = f"{settings.get('model_type')}, format {settings.get('format')}"
            raise WeightsError("no one-stage grounder that this version reads", where=str(folder), found=found)
        words = folder / FILES[settings["text"]]
        reader = Pieces(words) if settings["text"] == "bert" else Corpus(words.read_text("utf-8").splitlines())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, error) from None
    identity = {"name": config.grounder, "version": PAPER_VERSION, "weights": digest_of("converted", folder)}
    load = partial(_load, folder, settings, reader, identity, config.torch_device())
    return LazyGrounder(identity, load, is_cut=reader.is_cut)


def _load(
    folder: Path, settings: dict[str, Any], reader: Reader, identity: dict[str, str], device: str
) -> OneStageGrounder:
    try:
        network = build(settings)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, error) from None
    _fill(network, folder / "model.safetensors")
    network = network.to(device).requires_grad_(False)
    return OneStageGrounder(network, reader, identity, synthetic=False, box=paper_letterbox, n_threads=None)


def _damaged(folder: Path, error: Exception) -> WeightsError:
    found = f"{type(error).__name__}: {error}"[:200]
    todo = f"get {PUBLISHED}'s .pth.tar, then: fmit models convert onestage FILE.pth.tar {folder}"
    return WeightsError("no whole one-stage grounder", where=str(folder), found=found, todo=todo)


def _fill(network: PaperOneStage, path: Path) -> None:
    tensors, _ = weights.load_safetensors(path)
    try:
        network.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    except RuntimeError as error:
        found = str(error).splitlines()[1].strip()[:200]
        raise WeightsError("weights of another network", where=str(path), found=found) from None

"""A trained OneStage as a grounder: one pass a picture, all its queries on that, batches of one fixed shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from cache.keys import digest_file
from cache.weights import load_safetensors
from pipeline.grounding.grounder import Found
from pipeline.grounding.letterbox import Boxed, letterbox, to_picture
from pipeline.grounding.onestage import OneStage, Sizes, sizes_of
from pipeline.grounding.passes import exact, filled
from schema.errors import WeightsError

VERSION = "1"  # of everything between a picture and its boxes that the weights' digest does not cover
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
        toy: bool,
        box: Callable[[PIL.Image.Image, int], Boxed] = letterbox,
        n_threads: int | None = N_THREADS,
    ) -> None:
        self.network = network.eval()
        self.identity = dict(identity)
        self.toy = toy
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
        seen = self.network.see(filled(pixels, N_IMAGES).to(self.network.grid.device))
        rows = [(i, text) for i, asked in enumerate(queries) for text in asked]
        found: list[list[Found]] = [[] for _ in boxed]
        for start in range(0, len(rows), N_QUERIES):
            part = rows[start : start + N_QUERIES]
            boxes, scores = self._ask(seen, part)
            for (i, _), box, score in zip(part, boxes, scores, strict=False):
                x0, y0, x1, y1 = to_picture(box, boxed[i].scale, boxed[i].offset).tolist()
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
    """Metadata of a weights file, from which `load_onestage` rebuilds the network."""
    return {"sizes": json.dumps(asdict(sizes), sort_keys=True), "words": json.dumps(list(words))}


def load_onestage(path: Path, name: str, *, toy: bool) -> OneStageGrounder:
    """Read a weights file that `architecture` describes; raises WeightsError when it holds another network."""
    tensors, metadata = load_safetensors(path)
    if not {"sizes", "words"} <= metadata.keys():
        raise WeightsError("no weights of a one-stage grounder", where=str(path), found=f"metadata {sorted(metadata)}")
    words = json.loads(metadata["words"])
    network = OneStage(sizes_of(json.loads(metadata["sizes"])), len(words))
    try:
        network.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in tensors.items()})
    except RuntimeError as error:
        raise WeightsError("weights of another network", where=str(path), found=str(error).splitlines()[1]) from None
    identity = {"name": name, "version": VERSION, "weights": digest_file(path)}
    return OneStageGrounder(network, Vocabulary(words), identity, toy=toy)

"""A trained OneStage as a grounder: one pass a picture, all its queries on that, batches of one fixed shape."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from cache.keys import digest_file
from cache.weights import load_safetensors
from pipeline.grounding.grounder import Found
from pipeline.grounding.letterbox import letterbox, to_picture
from pipeline.grounding.onestage import OneStage, Sizes
from schema.errors import WeightsError

VERSION = "1"  # of everything between a picture and its boxes that the weights' digest does not cover
N_IMAGES, N_QUERIES = 4, 8  # of a pass: fixed, since the last bits of a row follow the batch's shape, not its content
N_THREADS = 1  # of a pass: the last bits follow it too, and small layers lose more to waiting than they gain
N_WORDS = 6  # of a query that reach the network; the rest of the known words is cut
PAD, UNKNOWN = "<pad>", "<unk>"


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
        words = ("".join(filter(str.isalnum, word)).lower() for word in text.split())
        known = [self._ids[word] for word in words if word in self._ids][:N_WORDS]
        ids = known or [self._ids[UNKNOWN]]
        return ids + [self._ids[PAD]] * (N_WORDS - len(ids))


class OneStageGrounder:
    """Grounder over a OneStage network in evaluation mode."""

    def __init__(self, network: OneStage, vocabulary: Vocabulary, identity: Mapping[str, str], *, toy: bool) -> None:
        self.network = network.eval()
        self.vocabulary = vocabulary
        self.identity = dict(identity)
        self.toy = toy

    def ground(self, images: Sequence[PIL.Image.Image], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        """See Grounder."""
        found: list[list[Found]] = []
        with torch.inference_mode(), _threads(N_THREADS):
            for start in range(0, len(images), N_IMAGES):
                part = slice(start, start + N_IMAGES)
                found += self._ground(images[part], queries[part])
        return found

    def _ground(self, images: Sequence[PIL.Image.Image], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        size = self.network.sizes.size_px
        boxed = [letterbox(image, size) for image in images]
        seen = self.network.see(_padded(torch.from_numpy(np.stack([pixels for pixels, _, _ in boxed])), N_IMAGES))
        rows = [(i, text) for i, asked in enumerate(queries) for text in asked]
        found: list[list[Found]] = [[] for _ in images]
        for start in range(0, len(rows), N_QUERIES):
            part = rows[start : start + N_QUERIES]
            boxes, scores = self._ask(seen, part)
            for (i, _), box, score in zip(part, boxes, scores, strict=False):
                x0, y0, x1, y1 = to_picture(box, *boxed[i][1:]).tolist()
                found[i].append(Found((x0, y0, x1, y1), float(score)))
        return found

    def _ask(self, seen: list[Tensor], rows: Sequence[tuple[int, str]]) -> tuple[np.ndarray, np.ndarray]:
        """Best boxes float64 [Q, 4] in pixels of the square, and their scores [Q]: shares of a softmax over all K."""
        at = _padded(torch.tensor([i for i, _ in rows]), N_QUERIES)
        words = _padded(torch.tensor([self.vocabulary.encode(text) for _, text in rows]), N_QUERIES)
        answers = self.network([x[at] for x in seen], words)
        scores, best = answers[..., 4].softmax(dim=1).max(dim=1)
        boxes = self.network.boxes(answers)[torch.arange(N_QUERIES), best]
        return boxes.double().numpy(), scores.double().numpy()


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """This many of PyTorch's threads inside the block; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _padded(rows: Tensor, n_rows: int) -> Tensor:
    """Rows up to n_rows, the missing ones repeating the first."""
    return torch.cat([rows, rows[:1].expand(n_rows - len(rows), *rows.shape[1:])])


def architecture(sizes: Sizes, words: Sequence[str]) -> dict[str, str]:
    """Metadata of a weights file, from which `load_onestage` rebuilds the network."""
    plain = {field: getattr(sizes, field) for field in Sizes.__slots__}
    return {"sizes": json.dumps(plain, sort_keys=True), "words": json.dumps(list(words))}


def load_onestage(path: Path, name: str, *, toy: bool) -> OneStageGrounder:
    """Read a weights file that `architecture` describes; raises WeightsError when it holds another network."""
    tensors, metadata = load_safetensors(path)
    if not {"sizes", "words"} <= metadata.keys():
        raise WeightsError("no weights of a one-stage grounder", where=str(path), found=f"metadata {sorted(metadata)}")
    words = json.loads(metadata["words"])
    network = OneStage(_sizes(json.loads(metadata["sizes"])), len(words))
    try:
        network.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in tensors.items()})
    except RuntimeError as error:
        raise WeightsError("weights of another network", where=str(path), found=str(error).splitlines()[1]) from None
    identity = {"name": name, "version": VERSION, "weights": digest_file(path)}
    return OneStageGrounder(network, Vocabulary(words), identity, toy=toy)


def _sizes(plain: Mapping[str, object]) -> Sizes:
    def tuples(value: object) -> object:
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return Sizes(**{key: tuples(value) for key, value in plain.items()})  # type: ignore[arg-type]

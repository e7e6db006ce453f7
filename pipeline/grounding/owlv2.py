"""OWLv2 (Minderer et al., 2023) by the transformers library: an image is read once, then matched with each text.

A pass has a fixed shape: short ones are filled up, so that a row's bits do not follow what it comes with.
B images a pass, P patches an image (each with one box), Q texts at once, D width of the common space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Owlv2ForObjectDetection

from pipeline.grounding import hub_model
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import Found, LazyGrounder, exact, filled

VERSION = "1"  # of everything between an image and its boxes that the identity does not name
N_QUERIES = 16  # matched with an image at once
N_REMEMBERED = 20_000  # texts whose vectors are kept: general words and names come again and again


@dataclass(frozen=True, slots=True)
class Seen:
    """float32 [3, side, side] as the processor made it, and the longer side of the image in pixels."""

    pixels: Tensor
    longer_px: int


class Owlv2Grounder:
    """See Grounder. `n_pieces`: of a text that it reads."""

    synthetic = False
    merges = False

    def __init__(self, model: Any, processor: Any, tokenizer: Any, identity: dict[str, str], n_batch: int) -> None:
        self._model, self._processor, self._tokenizer, self._n_batch = model, processor, tokenizer, n_batch
        self.identity = identity
        self.n_pieces: int = model.config.text_config.max_position_embeddings
        self._vectors: dict[str, Tensor] = {}

    def prepare(self, image: PIL.Image.Image) -> Seen:
        """See Grounder."""
        bounded = hub_model.bounded(image, self._model.config.vision_config.image_size)
        pixels = self._processor(images=bounded, return_tensors="pt")["pixel_values"][0]
        return Seen(pixels, max(image.size))

    @exact()
    def ground(self, images: Sequence[Seen], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        """See Grounder."""
        self._read(list(dict.fromkeys(text for asked in queries for text in asked)))
        found: list[list[Found]] = []
        for start in range(0, len(images), self._n_batch):
            part = slice(start, start + self._n_batch)
            found += self._ground(images[part], queries[part])
        return found

    def is_cut(self, text: str) -> bool:
        """See Grounder."""
        return len(self._tokenizer(text, verbose=False)["input_ids"]) > self.n_pieces

    def _ground(self, images: Sequence[Seen], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        pixels = torch.stack([seen.pixels for seen in images]).to(self._model.device, self._model.dtype)
        features, boxes = self._see(filled(pixels, self._n_batch))
        found: list[list[Found]] = [[] for _ in images]
        for start in range(0, max(map(len, queries), default=0), N_QUERIES):
            asked = [texts[start : start + N_QUERIES] for texts in queries]
            scores, best = self._match(features, asked)
            for i, texts in enumerate(asked):
                for j in range(len(texts)):
                    x, y, width, height = (boxes[i, best[i, j]] * images[i].longer_px).tolist()
                    xyxy = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                    found[i].append(Found(xyxy, float(scores[i, j])))
        return found

    def _see(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, side, side] -> features of the patches [B, P, D'], and float64 boxes [B, P, 4] on the CPU.

        A box is centre x and y, width and height as shares of the square's side. The square is the image with
        padding to its right and below, so shares times the image's longer side are its pixels.
        """
        maps = self._model.image_embedder(pixel_values=pixels)[0]
        features = maps.flatten(1, 2)
        return features, self._model.box_predictor(features, maps).double().cpu()

    def _match(self, features: Tensor, asked: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """For each image's texts the best patch's score (a sigmoid) and its index, [B', Q] each, on the CPU."""
        nothing = features.new_zeros(self._model.config.projection_dim)
        rows = [[self._vectors[text] for text in texts] for texts in asked]
        texts = torch.stack([torch.stack(row + [nothing] * (N_QUERIES - len(row))) for row in rows])  # [B', Q, D]
        logits = self._model.class_predictor(features, filled(texts, self._n_batch))[0]  # [B, P, Q]
        scores, best = logits.float().max(dim=1)
        return scores.sigmoid().cpu(), best.cpu()

    def _read(self, texts: Sequence[str]) -> None:
        """Keep the vector [D], of length 1, of every text."""
        if len(self._vectors) + len(texts) > N_REMEMBERED:
            self._vectors.clear()
        fresh = [text for text in texts if text not in self._vectors]
        for start in range(0, len(fresh), self._n_batch):
            part = fresh[start : start + self._n_batch]
            pieces = self._tokenizer(
                part + part[:1] * (self._n_batch - len(part)),
                padding="max_length",
                truncation=True,
                max_length=self.n_pieces,
                return_tensors="pt",
            ).to(self._model.device)
            owl = self._model.owlv2
            read = owl.text_model(input_ids=pieces["input_ids"], attention_mask=pieces["attention_mask"])
            vectors = F.normalize(owl.text_projection(read.pooler_output), dim=-1)
            self._vectors |= zip(part, vectors, strict=False)


def open_grounder(config: GroundConfig) -> LazyGrounder:
    """OWLv2 from a folder or the hub's files on this machine; raises WeightsError."""
    folder = hub_model.find_folder(config)
    identity = hub_model.identity(config, folder, VERSION)
    return LazyGrounder(identity, partial(_load, config, folder, identity), is_cut=partial(_is_cut, folder))


def _load(config: GroundConfig, folder: Path, identity: dict[str, str]) -> Owlv2Grounder:
    return Owlv2Grounder(
        hub_model.load_model(Owlv2ForObjectDetection, folder, config),
        hub_model.image_processor("Owlv2", folder, config.processor),
        hub_model.tokenizer(folder),
        identity,
        hub_model.n_batch(config),
    )


def _is_cut(folder: Path, text: str) -> bool:
    n_pieces = hub_model.settings(folder).text_config.max_position_embeddings
    return len(hub_model.tokenizer(folder)(text, verbose=False)["input_ids"]) > n_pieces

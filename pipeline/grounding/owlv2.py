"""OWLv2 (Minderer et al., 2023) by the transformers library: an image is read once, then matched with each text.

A batch has a fixed shape, short ones are padded, so that a row's bits do not depend on the rest of its batch.
B images a batch, P patches an image (each with one box), Q texts at once, D width of the common space.
"""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Owlv2ForObjectDetection

from pipeline.grounding.grounder import ScoredBox, TextVectors, deterministic_inference, pad_batch
from pipeline.grounding.hub_model import MAX_SCALE, HubGrounder
from vision.crops import bounded

N_QUERIES = 16  # matched with an image at once


class Prepared(NamedTuple):
    """float32 [3, side, side] from the processor, and the longer side of the image in pixels."""

    pixels: Tensor
    longer_px: int


class Owlv2Grounder(HubGrounder):
    """The image is embedded once; each text gets the box of the patch with the highest score for it."""

    model_class, processor_name, version = Owlv2ForObjectDetection, "Owlv2", "1"
    max_pieces = attrgetter("text_config.max_position_embeddings")

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._vectors = TextVectors(self._read)

    @staticmethod
    def count_pieces(tokenizer: Any, text: str) -> int:
        return len(tokenizer(text, verbose=False)["input_ids"])

    def prepare(self, image: PIL.Image.Image) -> Prepared:
        smaller = bounded(image, MAX_SCALE * self._model.config.vision_config.image_size)
        return Prepared(self._processor(images=smaller, return_tensors="pt")["pixel_values"][0], max(image.size))

    @deterministic_inference()
    def ground(self, images: Sequence[Prepared], queries: Sequence[Sequence[str]]) -> list[list[ScoredBox]]:
        vectors = self._vectors.of(queries, self._n_batch)
        parts = [slice(start, start + self._n_batch) for start in range(0, len(images), self._n_batch)]
        return [boxes for part in parts for boxes in self._ground(images[part], queries[part], vectors)]

    def _ground(
        self, images: Sequence[Prepared], queries: Sequence[Sequence[str]], vectors: Mapping[str, Tensor]
    ) -> list[list[ScoredBox]]:
        pixels = torch.stack([image.pixels for image in images]).to(self._model.device, self._model.dtype)
        maps = self._model.image_embedder(pixel_values=pad_batch(pixels, self._n_batch))[0]
        features = maps.flatten(1, 2)  # [B, P, D']
        # Boxes [B, P, 4]: center, width and height as shares of the side of a square, which is the image with padding
        # to its right and below; so shares times the image's longer side are its pixels
        boxes = self._model.box_predictor(features, maps).double().cpu()
        padding = features.new_zeros(self._model.config.projection_dim)
        rows: list[list[ScoredBox]] = [[] for _ in images]
        for start in range(0, max(map(len, queries), default=0), N_QUERIES):
            part = [texts[start : start + N_QUERIES] for texts in queries]
            read = [[vectors[text] for text in texts] + [padding] * (N_QUERIES - len(texts)) for texts in part]
            together = pad_batch(torch.stack([torch.stack(row) for row in read]), self._n_batch)  # [B, Q, D]
            logits, best = self._model.class_predictor(features, together)[0].float().max(dim=1)  # of [B, P, Q]
            scores, best = logits.sigmoid().cpu(), best.cpu()
            for i, texts in enumerate(part):
                for j in range(len(texts)):
                    x, y, width, height = (boxes[i, best[i, j]] * images[i].longer_px).tolist()
                    xyxy = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                    rows[i].append(ScoredBox(xyxy, float(scores[i, j])))
        return rows

    def _read(self, texts: list[str]) -> Tensor:
        """Vectors [*, D] of length 1."""
        options = {"padding": "max_length", "truncation": True, "max_length": self.n_pieces, "return_tensors": "pt"}
        pieces = self._tokenizer(texts, **options).to(self._model.device)
        owl = self._model.owlv2
        output = owl.text_model(input_ids=pieces["input_ids"], attention_mask=pieces["attention_mask"])
        return F.normalize(owl.text_projection(output.pooler_output), dim=-1)


open_grounder = Owlv2Grounder.open

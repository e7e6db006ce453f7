"""Grounding DINO (Liu et al., 2023) by the transformers library: phrases are read as one text, "a cat. a dog.".

Image and text look at each other inside the network, so a phrase's box depends on the phrases that it is read with.
With `merge` that group is the post's phrases and part of a row's key; without, every phrase is read alone. A pass has
one text length, and one image shape (no padding: the network's numbers would follow it).
N passes at once, K boxes a pass, T pieces of a text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from transformers import GroundingDinoForObjectDetection
from transformers.models.grounding_dino.modeling_grounding_dino import SPECIAL_TOKENS

from pipeline.grounding import hub_model
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import Found, LazyGrounder, exact, filled
from schema.errors import WeightsError

VERSION = "1"  # of everything between an image and its boxes that the identity does not name
MAX_ASPECT = 16  # beyond it the short side is padded: a line of one pixel would be resized to none
PADDING = 0  # its piece in uncased BERT's vocabulary
N_AROUND = 3  # pieces of a text beside its phrases': its start, its end, and a phrase's full stop


@dataclass(frozen=True, slots=True)
class Seen:
    """float32 [3, rows, columns] from the processor; width and height of what it shows in the image's pixels."""

    pixels: Tensor
    size: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Pass:
    """An image (by its index), the pieces of a merged text, and where in it each phrase stands: [start, end)."""

    image: int
    pieces: tuple[int, ...]
    spans: dict[str, tuple[int, int]]


class GroundingDinoGrounder:
    """See Grounder."""

    synthetic = False

    def __init__(
        self, model: Any, processor: Any, tokenizer: Any, identity: dict[str, str], n_batch: int, *, merges: bool
    ) -> None:
        self._model, self._processor, self._tokenizer, self._n_batch = model, processor, tokenizer, n_batch
        self.identity, self.merges = identity, merges
        self.n_pieces: int = model.config.max_text_len
        self._start, self._end = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._stop = tokenizer.convert_tokens_to_ids(".")
        if not {self._start, self._end, self._stop} <= set(SPECIAL_TOKENS):
            found = f"{self._start}, {self._end}, {self._stop}"
            raise WeightsError("a tokenizer whose [CLS], [SEP] and '.' are not those of uncased BERT", found=found)

    def prepare(self, image: PIL.Image.Image) -> Seen:
        """See Grounder."""
        smaller = hub_model.bounded(image, self._processor.size["longest_edge"])
        padded = _padded(smaller)
        pixels = self._processor(images=padded, return_tensors="pt")["pixel_values"][0]
        scale_x, scale_y = image.width / smaller.width, image.height / smaller.height
        return Seen(pixels, (padded.width * scale_x, padded.height * scale_y))

    @exact()
    def ground(self, images: Sequence[Seen], queries: Sequence[Sequence[str]]) -> list[list[Found]]:
        """See Grounder."""
        by_shape: dict[tuple[int, ...], list[Pass]] = defaultdict(list)
        for i, texts in enumerate(queries):
            by_shape[tuple(images[i].pixels.shape)] += self.passes(i, texts)
        found: dict[tuple[int, str], Found] = {}
        for passes in by_shape.values():
            for start in range(0, len(passes), self._n_batch):
                found |= self._ask(images, passes[start : start + self._n_batch])
        return [[found[i, text] for text in texts] for i, texts in enumerate(queries)]

    def is_cut(self, text: str) -> bool:
        """See Grounder."""
        return len(_pieces(self._tokenizer, text)) > self.n_pieces - N_AROUND

    def passes(self, image: int, texts: Sequence[str]) -> list[Pass]:
        """The texts asked of an image as few merged texts as hold them, each phrase whole in one of them."""
        found: list[Pass] = []
        pieces, spans = [self._start], dict[str, tuple[int, int]]()
        for text in dict.fromkeys(texts):
            phrase = self._phrase(text)
            if spans and (not self.merges or len(pieces) + len(phrase) + 2 > self.n_pieces):
                found.append(Pass(image, (*pieces, self._end), spans))
                pieces, spans = [self._start], {}
            spans[text] = (len(pieces), len(pieces) + len(phrase))
            pieces += [*phrase, self._stop]
        return [*found, Pass(image, (*pieces, self._end), spans)] if spans else found

    def _phrase(self, text: str) -> list[int]:
        return _pieces(self._tokenizer, text)[: self.n_pieces - N_AROUND] or [self._tokenizer.unk_token_id]

    def _ask(self, images: Sequence[Seen], passes: Sequence[Pass]) -> dict[tuple[int, str], Found]:
        """Per image and phrase the box with the best mean over the phrase's pieces of each piece's sigmoid."""
        pixels = torch.stack([images[one.image].pixels for one in passes]).to(self._model.device, self._model.dtype)
        pieces = torch.full((len(passes), self.n_pieces), PADDING)
        for row, one in enumerate(passes):
            pieces[row, : len(one.pieces)] = torch.tensor(one.pieces)
        pieces = filled(pieces, self._n_batch).to(self._model.device)
        answer = self._model(
            pixel_values=filled(pixels, self._n_batch),
            input_ids=pieces,
            token_type_ids=torch.zeros_like(pieces),
            attention_mask=(pieces != PADDING).long(),
        )
        scores = answer.logits.float().sigmoid().cpu()  # [N, K, T]
        boxes = answer.pred_boxes.double().cpu()  # [N, K, 4], shares of the image's sides: centre, width, height
        found = {}
        for row, one in enumerate(passes):
            width, height = images[one.image].size
            for text, (start, end) in one.spans.items():
                score, best = scores[row, :, start:end].mean(dim=1).max(dim=0)
                x, y, w, h = boxes[row, best].tolist()
                xyxy = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
                found[one.image, text] = Found(xyxy, float(score))
        return found


def open_grounder(config: GroundConfig) -> LazyGrounder:
    """Grounding DINO from a folder or the hub's files on this machine; raises WeightsError."""
    folder = hub_model.find_folder(config)
    identity = hub_model.identity(config, folder, VERSION) | {"merged": "yes" if config.merge else "no"}
    load, is_cut = partial(_load, config, folder, identity), partial(_is_cut, folder)
    return LazyGrounder(identity, load, merges=config.merge, is_cut=is_cut)


def _load(config: GroundConfig, folder: Path, identity: dict[str, str]) -> GroundingDinoGrounder:
    return GroundingDinoGrounder(
        hub_model.load_model(GroundingDinoForObjectDetection, folder, config),
        hub_model.image_processor("GroundingDino", folder, config.processor),
        hub_model.tokenizer(folder),
        identity,
        hub_model.n_batch(config),
        merges=config.merge,
    )


def _is_cut(folder: Path, text: str) -> bool:
    return len(_pieces(hub_model.tokenizer(folder), text)) > hub_model.settings(folder).max_text_len - N_AROUND


def _pieces(tokenizer: Any, text: str) -> list[int]:
    """Pieces of a phrase without those that would end it for the network: "St. Louis" is one phrase, not two."""
    pieces = tokenizer(text.lower(), add_special_tokens=False, verbose=False)["input_ids"]
    return [piece for piece in pieces if piece not in SPECIAL_TOKENS and piece != PADDING]


def _padded(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image, to the right or below as much black as brings its sides to MAX_ASPECT."""
    least = -(-max(image.size) // MAX_ASPECT)
    if min(image.size) >= least:
        return image
    padded = PIL.Image.new("RGB", (max(image.width, least), max(image.height, least)))
    padded.paste(image)
    return padded

"""Grounding DINO (Liu et al., 2023) by the transformers library: phrases are read as one text, "a cat. a dog.".

Image and text attend to each other inside the network, so a phrase's box depends on the phrases that it is read with.
With `merge` these are the post's phrases, and they are part of a row's key; without, every phrase is read by itself. A
pass has one text length and one image shape: padding of images would change the network's numbers.
N passes at once, K boxes a pass, T pieces of a text.
"""

from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor
from transformers import GroundingDinoForObjectDetection
from transformers.models.grounding_dino.modeling_grounding_dino import SPECIAL_TOKENS

from pipeline.grounding.grounder import ScoredBox, deterministic_inference, pad_batch
from pipeline.grounding.hub_model import MAX_SCALE, HubGrounder
from schema.errors import WeightsError
from vision.crops import bounded

MAX_ASPECT = 16  # beyond it the short side is padded: a line of one pixel would be resized to none
PADDING = 0  # its piece in uncased BERT's vocabulary
N_AROUND = 3  # pieces of a text beside its phrases': its start, its end, and a phrase's full stop


class Prepared(NamedTuple):
    """float32 [3, rows, columns] from the processor; width and height of what it shows in the image's pixels."""

    pixels: Tensor
    size: tuple[float, float]


class Pass(NamedTuple):
    """An image (by its index), the pieces of a merged text, and where in it each phrase stands: [start, end)."""

    image: int
    pieces: tuple[int, ...]
    spans: dict[str, tuple[int, int]]


class GroundingDinoGrounder(HubGrounder):
    """A phrase gets the box with the highest mean score over the phrase's pieces."""

    model_class, processor_name, version = GroundingDinoForObjectDetection, "GroundingDino", "1"
    max_pieces, merges = attrgetter("max_text_len"), True

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        tokenizer = self._tokenizer
        self._start, self._end = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._stop = tokenizer.convert_tokens_to_ids(".")
        if not {self._start, self._end, self._stop} <= set(SPECIAL_TOKENS):
            found = f"{self._start}, {self._end}, {self._stop}"
            raise WeightsError("the tokenizer's [CLS], [SEP] and '.' are not those of uncased BERT", found=found)

    @staticmethod
    def count_pieces(tokenizer: Any, text: str) -> int:
        return len(_pieces(tokenizer, text)) + N_AROUND

    def prepare(self, image: PIL.Image.Image) -> Prepared:
        smaller = bounded(image, MAX_SCALE * self._processor.size["longest_edge"])
        shortest = -(-max(smaller.size) // MAX_ASPECT)
        right, bottom = (max(shortest - side, 0) for side in smaller.size)
        padded = PIL.ImageOps.expand(smaller, (0, 0, right, bottom))  # black
        pixels = self._processor(images=padded, return_tensors="pt")["pixel_values"][0]
        scale_x, scale_y = image.width / smaller.width, image.height / smaller.height
        return Prepared(pixels, (padded.width * scale_x, padded.height * scale_y))

    @deterministic_inference()
    def ground(self, images: Sequence[Prepared], queries: Sequence[Sequence[str]]) -> list[list[ScoredBox]]:
        by_shape: dict[tuple[int, ...], list[Pass]] = defaultdict(list)
        for i, texts in enumerate(queries):
            by_shape[tuple(images[i].pixels.shape)] += self.passes(i, texts)
        boxes: dict[tuple[int, str], ScoredBox] = {}
        for passes in by_shape.values():
            for start in range(0, len(passes), self._n_batch):
                boxes |= self._forward(images, passes[start : start + self._n_batch])
        return [[boxes[i, text] for text in texts] for i, texts in enumerate(queries)]

    def passes(self, image: int, texts: Sequence[str]) -> list[Pass]:
        """The texts for an image as few merged texts as hold them, each phrase whole in one of them."""
        passes: list[Pass] = []
        pieces, spans = [self._start], dict[str, tuple[int, int]]()
        for text in dict.fromkeys(texts):
            phrase = _pieces(self._tokenizer, text)[: self.n_pieces - N_AROUND] or [self._tokenizer.unk_token_id]
            if spans and (not self.merges or len(pieces) + len(phrase) + 2 > self.n_pieces):
                passes.append(Pass(image, (*pieces, self._end), spans))
                pieces, spans = [self._start], {}
            spans[text] = (len(pieces), len(pieces) + len(phrase))
            pieces += [*phrase, self._stop]
        return [*passes, Pass(image, (*pieces, self._end), spans)] if spans else passes

    def _forward(self, images: Sequence[Prepared], passes: Sequence[Pass]) -> dict[tuple[int, str], ScoredBox]:
        """Per image and phrase the box with the best mean over the phrase's pieces of each piece's sigmoid."""
        pixels = torch.stack([images[each.image].pixels for each in passes]).to(self._model.device, self._model.dtype)
        pieces = torch.full((len(passes), self.n_pieces), PADDING)
        for row, each in enumerate(passes):
            pieces[row, : len(each.pieces)] = torch.tensor(each.pieces)
        pieces = pad_batch(pieces, self._n_batch).to(self._model.device)
        output = self._model(
            pixel_values=pad_batch(pixels, self._n_batch),
            input_ids=pieces,
            token_type_ids=torch.zeros_like(pieces),
            attention_mask=(pieces != PADDING).long(),
        )
        scores = output.logits.float().sigmoid().cpu()  # [N, K, T]
        boxes = output.pred_boxes.double().cpu()  # [N, K, 4], shares of the image's sides: center, width, height
        best_boxes = {}
        for row, each in enumerate(passes):
            width, height = images[each.image].size
            for text, (start, end) in each.spans.items():
                score, best = scores[row, :, start:end].mean(dim=1).max(dim=0)
                x, y, w, h = boxes[row, best].tolist()
                xyxy = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
                best_boxes[each.image, text] = ScoredBox(xyxy, float(score))
        return best_boxes


def _pieces(tokenizer: Any, text: str) -> list[int]:
    """Pieces of a phrase without those that would end it for the network: "St. Louis" is one phrase, not two."""
    pieces = tokenizer(text.lower(), add_special_tokens=False, verbose=False)["input_ids"]
    return [piece for piece in pieces if piece not in SPECIAL_TOKENS and piece != PADDING]


open_grounder = GroundingDinoGrounder.open

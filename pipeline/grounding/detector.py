"""A grounder on an object detector: each text is matched with the detections of an image by MiniLM.

The score of detection d for text t is the detector's score times the probability that t names d's class:

- Similarity to a class: the cosine of MiniLM's sentence vectors, of the text's head (weight 0.7) and of the whole text.
- A text names something that the detector knows if its most similar class is similar enough (a logistic function);
  other classes lose exponentially with their distance from that one.
- A name, which has no common noun, may be a person or, less often, a pet: the better the name resembles words for
  persons rather than places and organizations, the more.
- A plural gets the box around the detections of its class.

Below a threshold the box is the whole image; the score stays what it was.
C classes, D detections, W = 384 floats a sentence vector.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import PIL.Image
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from cache import keys, weights
from cache.models import minilm_folder
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import Found, LazyGrounder, exact
from pipeline.phrases import span_network
from vision.detectors import DETECTION_VERSION, Detections, Detector, load_detector

VERSION = "1"  # of the matching
HEAD_WEIGHT = 0.7  # of the head's similarity; the rest is the whole text's
KNOWN_COSINE, KNOWN_SCALE = 0.55, 0.05  # where a text names some class with probability 1/2, and the logistic's scale
CLASS_SCALE = 0.15  # cosine by which another class than the most similar one loses a factor of e
PERSON_SCALE = 0.05  # of the logistic over how much closer a name is to person words than to other words
PET_PRIOR = 0.7  # of a name, relative to a person
MIN_SCORE = 0.1  # below it the box is the whole image
PLURAL_SCORE = 0.5  # share of the best detection's score that another one of a plural has at least
N_REMEMBERED = 20_000  # texts whose vectors are kept
N_NEAREST = 3  # words of a kind that a name is compared with

PETS = ("dog", "cat", "horse")
PEOPLE = ("man", "woman", "boy", "girl", "child", "people", "player")  # other words for the class "person"
KINDS = (  # words for what a name may be: persons first
    ("person", "a man", "a woman", "first name", "a person's name", "singer", "player"),
    ("city", "country", "place", "street", "park", "river"),
    ("company", "team", "organization", "university", "brand", "newspaper"),
)
# fmt: off
FUNCTION_WORDS = frozenset((
    "a", "an", "the", "my", "your", "his", "her", "its", "our", "their", "this", "that", "these", "those", "some",
    "any", "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "many", "few",
    "several", "another", "all", "both", "each", "every", "very", "so", "and", "or", "'s", "&",
))
PREPOSITIONS = frozenset((
    "of", "in", "on", "at", "with", "from", "for", "to", "by", "into", "over", "under", "near", "who", "that", "which",
    "and", "or", ",", ";", ":", "-", "(", ")",
))
QUANTITIES = frozenset((
    "thousands", "hundreds", "dozens", "lots", "lot", "bunch", "couple", "group", "pair", "tons", "plenty", "piece",
))
# fmt: on
COUNTS = {"two": 2, "both": 2, "three": 3, "four": 4, "five": 5}
PLURALS = frozenset(("people", "men", "women", "children"))


class SentenceEncoder:
    """MiniLM's sentence vectors: the mean over a text's pieces, of length 1."""

    def __init__(self) -> None:
        self._model = span_network.MiniLM(layers=6, rank=0, dropout=0.0)
        self._model.load_package(minilm_folder() / "model.safetensors")
        self._model.eval()
        self.encode = lru_cache(N_REMEMBERED)(self._encode)

    def _encode(self, text: str) -> Tensor:
        ids = torch.tensor([_pieces(text)[: span_network.N_POSITIONS]])
        last = self._model(ids, torch.ones_like(ids, dtype=torch.bool))[-1]
        return F.normalize(last[0].mean(0), dim=0)


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _pieces(text: str) -> list[int]:
    return _tokenizer().encode(text).ids


def is_cut(text: str) -> bool:
    """Whether a text has more pieces than MiniLM has positions."""
    return len(_pieces(text)) > span_network.N_POSITIONS


@dataclass(frozen=True, slots=True)
class Noun:
    """The head of a text; whether it is a name, and how many things the text is about (0: an open plural)."""

    head: str
    is_name: bool
    count: int


@dataclass(frozen=True, slots=True)
class Match:
    """What a text has to do with each class, [C] each: the probability that it names the class, and its plural."""

    probabilities: Tensor
    count: int


class DetectorGrounder:
    """See Grounder."""

    synthetic = False
    merges = False

    def __init__(self, detector: Detector, encoder: SentenceEncoder, identity: dict[str, str]) -> None:
        self._detector, self._encoder, self.identity = detector, encoder, identity
        names = [[name, *(PEOPLE if name == "person" else ())] for name in detector.classes]
        self._classes = [self._vectors(words) for words in names]
        self._kinds = [self._vectors(words) for words in KINDS]
        self._prior = torch.tensor([_prior(name) for name in detector.classes])
        self._match = lru_cache(N_REMEMBERED)(self.match)

    def prepare(self, image: PIL.Image.Image) -> tuple[Tensor, tuple[int, int]]:
        """See Grounder."""
        return self._detector.prepare(image), image.size

    @exact()
    def ground(
        self, images: Sequence[tuple[Tensor, tuple[int, int]]], queries: Sequence[Sequence[str]]
    ) -> list[list[Found]]:
        """See Grounder."""
        found = []
        for (pixels, size), texts in zip(images, queries, strict=True):
            detections = self._detector.detect(pixels, size)
            found.append([choose(detections, self._match(text), size) for text in texts])
        return found

    @exact()
    def candidates(self, image: PIL.Image.Image) -> list[tuple[float, float, float, float]]:
        """The boxes of all detections of an image, whatever their class."""
        boxes = self._detector.detect(self._detector.prepare(image), image.size).boxes
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes.tolist()]

    def is_cut(self, text: str) -> bool:
        """See Grounder."""
        return is_cut(text)

    def match(self, text: str) -> Match:
        """The probability of each class [C] for a text."""
        noun = parse(text, self._detector.classes)
        head, whole = (self._similarities(words) for words in (noun.head, text))
        cosines = HEAD_WEIGHT * head + (1 - HEAD_WEIGHT) * whole
        best = float(cosines.max())
        named = _logistic((best - KNOWN_COSINE) / KNOWN_SCALE) * ((cosines - best) / CLASS_SCALE).exp()
        if noun.is_name:
            named = torch.maximum(named, self._person(text) * self._prior)
        return Match(named, noun.count)

    def _person(self, name: str) -> float:
        vector = self._encoder.encode(name)
        person, *others = (float((words @ vector).topk(N_NEAREST).values.mean()) for words in self._kinds)
        return _logistic((person - max(others)) / PERSON_SCALE)

    def _similarities(self, text: str) -> Tensor:
        vector = self._encoder.encode(text)
        return torch.stack([(words @ vector).max() for words in self._classes])

    def _vectors(self, words: Sequence[str]) -> Tensor:
        return torch.stack([self._encoder.encode(word) for word in words])


def choose(detections: Detections, match: Match, size: tuple[int, int]) -> Found:
    """The box and score of a text in an image of `size`."""
    scores = detections.scores * match.probabilities[detections.classes]
    best, score = (int(scores.argmax()), float(scores.max())) if len(scores) else (0, 0.0)
    if score < MIN_SCORE:
        return Found((0.0, 0.0, float(size[0]), float(size[1])), score)
    boxes = detections.boxes[best : best + 1]
    if match.count != 1:
        same = detections.classes == detections.classes[best]
        if match.count == 0:
            same &= detections.scores >= PLURAL_SCORE * detections.scores[best]
        boxes = detections.boxes[same][: match.count or None]
    x0, y0 = boxes[:, :2].amin(0).tolist()
    x1, y1 = boxes[:, 2:].amax(0).tolist()
    return Found((x0, y0, x1, y1), score)


def parse(text: str, classes: Sequence[str] = ()) -> Noun:
    """The head of a noun phrase, by its words alone: "the loveliest iron bed" -> bed, "two cats on a sofa" -> cats.

    A class's name of several words at the end of the phrase is its head: "the hot dog".
    """
    words = text.split()
    for at, word in enumerate(words[1:-1], 1):
        if word.lower() == "of" and words[at - 1].lower() in QUANTITIES:  # "thousands of starlings"
            return parse(" ".join(words[at + 1 :]), classes)
    end = next((at for at, word in enumerate(words) if at and word.lower() in PREPOSITIONS), len(words))
    kept = [word for word in words[:end] if word.lower() not in FUNCTION_WORDS] or words or [""]
    kept = [word for word in kept if re.fullmatch(r"[^\W\d][^\d]*", word)] or kept
    phrase = " ".join(kept).lower()
    longest = max((name for name in classes if " " in name and f" {phrase}".endswith(f" {name}")), key=len, default="")
    head, first = longest or kept[-1], words[0].lower() if words else ""
    is_name = head[:1].isupper() and first not in FUNCTION_WORDS
    plural = not is_name and (head.lower() in PLURALS or bool(re.fullmatch(r".+[^isu]s", head.lower())))
    return Noun(head, is_name, (COUNTS.get(first, 0)) if plural else 1)


def open_grounder(config: GroundConfig) -> LazyGrounder:
    """The grounder that a configuration names; raises WeightsError where the detector's weights are missing."""
    path = weights.find(config.weights)
    identity = {
        "name": "detector",
        "version": VERSION,
        "detector": config.detector,
        "detection": DETECTION_VERSION,
        "weights": keys.digest_file(path),
        "text": span_network.DIGEST,
    }
    return LazyGrounder(identity, partial(_load, config, path, identity), is_cut=is_cut)


def _load(config: GroundConfig, path: Path, identity: dict[str, str]) -> DetectorGrounder:
    with torch.inference_mode():
        detector = load_detector(config.detector, path, config.torch_device())
        return DetectorGrounder(detector, SentenceEncoder(), identity)


def _prior(name: str) -> float:
    """How likely a name is one of this class, relative to a person."""
    return 1.0 if name == "person" else PET_PRIOR if name in PETS else 0.0


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))

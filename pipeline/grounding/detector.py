"""A grounder on an object detector: each text is matched with the detections of an image by MiniLM.

The score of detection d for text t is the detector's score times the probability that t names d's class:

- Similarity to a class: the cosine of MiniLM's sentence vectors, of the text's head (weight 0.7) and of the whole text.
- A text names one of the detector's classes if the most similar one is similar enough (a logistic function); other
  classes lose exponentially with their distance from that one.
- A name, which has no common noun, may be a person or, less often, a pet: the better the name resembles words for
  persons rather than places and organizations, the more.
- A plural gets the box around the detections of its class.

Below a threshold the box is the whole image; the score stays what it was.
C classes, D detections, W = 384 floats of a sentence vector.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import PIL.Image
import torch
import yaml
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from cache import keys, weights
from cache.models import minilm_folder
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import N_CACHED_TEXTS, Grounder, LazyGrounder, ScoredBox, deterministic_inference
from pipeline.passes import run_passes
from pipeline.phrases import span_network
from vision.detectors import DETECTION_VERSION, NANODET, Detections, Detector, load_detector

VERSION = "1"  # of the matching
HEAD_WEIGHT = 0.7  # of the head's similarity; the rest is the whole text's
KNOWN_COSINE, KNOWN_SCALE = 0.55, 0.05  # where a text names some class with probability 1/2; the logistic's scale
CLASS_SCALE = 0.15  # cosine by which another class than the most similar one loses a factor of e
PERSON_SCALE = 0.05  # of the logistic over how much closer a name is to person words than to other words
PET_PRIOR = 0.7  # that a name is one of these, relative to a person
MIN_SCORE = 0.1  # below it the box is the whole image
PLURAL_SCORE = 0.5  # share of the best detection's score that another one of a plural has at least
N_NEAREST = 3  # words of a kind that a name is compared with

WORDS = yaml.safe_load((Path(__file__).parent / "words.yaml").read_text(encoding="utf-8"))


def sentence_encoder() -> Callable[[str], Tensor]:
    """The function that gives MiniLM's vector [W] of a text: the mean over its pieces, of length 1."""
    model = span_network.MiniLM(layers=6, rank=0, dropout=0.0)
    model.load_package(minilm_folder() / "model.safetensors")
    model.eval()

    @lru_cache(N_CACHED_TEXTS)
    def encode(text: str) -> Tensor:
        ids = torch.tensor([_tokenizer().encode(text).ids[: span_network.N_POSITIONS]])
        last = model(ids, torch.ones_like(ids, dtype=torch.bool))[-1]
        return F.normalize(last[0].mean(0), dim=0)

    return encode


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def is_cut(text: str) -> bool:
    """Whether a text has more pieces than MiniLM has positions."""
    return len(_tokenizer().encode(text).ids) > span_network.N_POSITIONS


class Noun(NamedTuple):
    """The head of a text, whether it is a name, and how many objects the text is about (0: a plural without number)."""

    head: str
    is_name: bool
    n_objects: int


Match = tuple[Tensor, int]  # the probability of each class [C] that a text names it, and `Noun.n_objects`


class DetectorGrounder(Grounder):
    def __init__(self, detector: Detector, encode: Callable[[str], Tensor], identity: dict[str, str]) -> None:
        self._detector, self._encode, self.identity = detector, encode, identity
        on_cpu = detector.device.type == "cpu"
        self._n_passes = torch.get_num_threads() if on_cpu and detector.name == NANODET else 1  # NANODET's take 30 MB
        context = torch.inference_mode if on_cpu else deterministic_inference  # which sets flags that threads share
        self._detect = context()(lambda image: detector.detect(*image))
        names = [[name, *(WORDS["people"] if name == "person" else ())] for name in detector.classes]
        self._classes = [self._vectors(words) for words in names]
        self._kinds = [self._vectors(words) for words in WORDS["kinds"]]
        priors = {"person": 1.0} | dict.fromkeys(WORDS["pets"], PET_PRIOR)  # of a name, relative to a person
        self._prior = torch.tensor([priors.get(name, 0.0) for name in detector.classes])
        self._match = lru_cache(N_CACHED_TEXTS)(self.match)

    def prepare(self, image: PIL.Image.Image) -> tuple[Tensor, tuple[int, int]]:
        return self._detector.prepare(image), image.size

    def ground(
        self, images: Sequence[tuple[Tensor, tuple[int, int]]], queries: Sequence[Sequence[str]]
    ) -> Iterator[list[ScoredBox]]:
        matches = {text: self._match(text) for text in chain.from_iterable(queries)}
        found = run_passes(self._detect, images, self._n_passes)
        for detections, (_, size), asked in zip(found, images, queries, strict=True):
            yield [choose(detections, matches[text], size) for text in asked]

    def candidates(self, image: PIL.Image.Image) -> list[tuple[float, float, float, float]]:
        """The boxes of all detections of an image, whatever their class."""
        boxes = self._detect(self.prepare(image)).boxes
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes.tolist()]

    is_cut = staticmethod(is_cut)

    @torch.inference_mode()
    def match(self, text: str) -> Match:
        noun = parse(text, self._detector.classes)
        head, whole = (self._encode(words) for words in (noun.head, text))
        cosines = HEAD_WEIGHT * self._to_classes(head) + (1 - HEAD_WEIGHT) * self._to_classes(whole)
        best = float(cosines.max())
        named = _logistic((best - KNOWN_COSINE) / KNOWN_SCALE) * ((cosines - best) / CLASS_SCALE).exp()
        if noun.is_name:
            person, *others = (float((words @ whole).topk(N_NEAREST).values.mean()) for words in self._kinds)
            named = torch.maximum(named, _logistic((person - max(others)) / PERSON_SCALE) * self._prior)
        return named, noun.n_objects

    def _to_classes(self, vector: Tensor) -> Tensor:
        return torch.stack([(words @ vector).max() for words in self._classes])

    def _vectors(self, words: Sequence[str]) -> Tensor:
        return torch.stack([self._encode(word) for word in words])


def choose(detections: Detections, match: Match, size: tuple[int, int]) -> ScoredBox:
    """The box and score of a text in an image of `size`."""
    probabilities, n_objects = match
    scores = detections.scores * probabilities[detections.classes]
    best, score = (int(scores.argmax()), float(scores.max())) if len(scores) else (0, 0.0)
    if score < MIN_SCORE:
        return ScoredBox((0.0, 0.0, float(size[0]), float(size[1])), score)
    boxes = detections.boxes[best : best + 1]
    if n_objects != 1:
        same = detections.classes == detections.classes[best]
        if n_objects == 0:
            same &= detections.scores >= PLURAL_SCORE * detections.scores[best]
        boxes = detections.boxes[same][: n_objects or None]
    x0, y0 = boxes[:, :2].amin(0).tolist()
    x1, y1 = boxes[:, 2:].amax(0).tolist()
    return ScoredBox((x0, y0, x1, y1), score)


def parse(text: str, classes: Sequence[str] = ()) -> Noun:
    """The head of a noun phrase, from its words only: "the loveliest iron bed" -> bed, "two cats on a sofa" -> cats.

    A class's name of several words at the end of the phrase is its head: "the hot dog".
    """
    words = text.split()
    for at, word in enumerate(words[1:-1], 1):
        if word.lower() == "of" and words[at - 1].lower() in WORDS["quantities"]:  # "thousands of starlings"
            return parse(" ".join(words[at + 1 :]), classes)
    end = next((at for at, word in enumerate(words) if at and word.lower() in WORDS["prepositions"]), len(words))
    content = [word for word in words[:end] if word.lower() not in WORDS["function_words"]] or words or [""]
    content = [word for word in content if re.fullmatch(r"[^\W\d][^\d]*", word)] or content
    phrase = " ".join(content).lower()
    longest = max((name for name in classes if " " in name and f" {phrase}".endswith(f" {name}")), key=len, default="")
    head, first = longest or content[-1], words[0].lower() if words else ""
    is_name = head[:1].isupper() and first not in WORDS["function_words"]
    plural = not is_name and (head.lower() in WORDS["plurals"] or bool(re.fullmatch(r".+[^isu]s", head.lower())))
    return Noun(head, is_name, WORDS["counts"].get(first, 0) if plural else 1)


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

    @torch.inference_mode()
    def load() -> DetectorGrounder:
        detector = load_detector(config.detector, path, config.torch_device())
        return DetectorGrounder(detector, sentence_encoder(), identity)

    return LazyGrounder(identity, load, is_cut=is_cut)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))

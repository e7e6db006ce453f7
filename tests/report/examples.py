"""Examples for tests: posts, images with a rectangle at each box, scores, and the folder of a run."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw

from report.errors import outcomes
from schema.prediction import SCHEMA_VERSION, Prediction
from schema.records import joined

LABELS = {"PER": "person", "LOC": "location", "ORG": "organization", "MISC": "miscellaneous"}
NAMES = {
    "PER": ["Jordan", "Ada Lovelace", "Florence Nightingale", "Sydney"],
    "LOC": ["Paris", "Tower Bridge", "Jordan", "Buenos Aires"],
    "ORG": ["Acme", "United Nations", "Paris", "Radio Seven"],
    "MISC": ["Oscar", "Eurovision", "Harvest Moon Festival", "Amazon"],
}
WORDS = ("seen", "near", "the", "old", "harbour", "with", "friends", "today", "what", "a", "lovely", "view", "of", "it")
PLACES = ("left", "upper", "tiny", "big")
FILLS = ((214, 69, 65), (38, 120, 178), (90, 160, 80), (230, 180, 60))


def pil_image(size: tuple[int, int], boxes: list[tuple[int, int, int, int]]) -> PIL.Image.Image:
    """A pale image with a plain filled rectangle at each box."""
    image = PIL.Image.new("RGB", size, (236, 232, 222))
    pen = PIL.ImageDraw.Draw(image)
    for at, (x0, y0, x1, y1) in enumerate(boxes):
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), fill=FILLS[at % len(FILLS)])
    return image


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


class Maker:
    """Makes random posts from a seed; `pil_images` maps digests to the images that `load` returns."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.pil_images: dict[str, PIL.Image.Image] = {}
        self.sizes: tuple[tuple[int, int], ...] = ((320, 240), (240, 320), (400, 300))

    def load(self, name: str, key: str) -> PIL.Image.Image | None:
        return self.pil_images.get(key)

    def post(self, index: int, split: str = "test", error_rate: float = 0.3, labelled: bool = True) -> dict[str, Any]:
        """A line of a predictions file: two phrases with a name each, one image in most cases."""
        words, phrases, gold = [], [], []
        for _ in range(self.random.choice((1, 2, 2))):
            words += self.random.sample(WORDS, 3)
            name_type = self.random.choice(list(NAMES))
            name = self.random.choice(NAMES[name_type]).split()
            start = len(words)
            words += [self.random.choice(PLACES), *name]
            phrases.append((start, len(words)))
            gold.append({"start": start + 1, "end": len(words), "type": name_type})
        words += [".", "#harbour"]
        line = {"id": f"{split}-{index:05}", "split": split, "words": words}
        predicted = [found for one in gold for found in self.guess(one, len(words), error_rate)]
        if self.random.random() < error_rate / 3:
            predicted.append({"start": 0, "end": 1, "type": "MISC", "confidence": self.random.uniform(0.2, 0.6)})
        predicted.sort(key=lambda found: found["start"])
        image, objects = self.imaged(line["id"], words, phrases)
        return {
            **line,
            "images": [image],
            "gold": gold if labelled else None,
            "entities": [self.full(found, words) for found in predicted],
            "objects": objects,
        }

    def guess(self, gold: dict[str, Any], n_words: int, error_rate: float) -> list[dict[str, Any]]:
        given = {**gold, "confidence": 1 - self.random.random() ** 2 * 0.5}
        if self.random.random() > error_rate:
            return [given]
        fate = self.random.choice(("type", "type", "boundary", "both", "missed"))
        if fate == "missed":
            return []
        if fate in ("boundary", "both"):
            given["start"] -= 1
        if fate in ("type", "both"):
            given["type"] = self.random.choice([name for name in NAMES if name != gold["type"]])
        return [{**given, "confidence": self.random.uniform(0.3, 0.95)}]

    def full(self, found: dict[str, Any], words: list[str]) -> dict[str, Any]:
        text = " ".join(words[found["start"] : found["end"]])
        at = len(" ".join(words[: found["start"]])) + (found["start"] > 0)
        return {**found, "text": text, "char_start": at, "char_end": at + len(text), "grounded_boxes": []}

    def imaged(
        self, name: str, words: list[str], phrases: list[tuple[int, int]]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        fate = self.random.random()
        image = {"name": f"{name}.png", "digest": "", "width": 0, "height": 0, "state": "missing"}
        whole = {"source": "image", "text": "", "start": None, "end": None, "image_index": 0, "score": 1.0}
        corners = dict.fromkeys(("x0", "y0", "x1", "y1"))
        if fate < 0.12:
            return {**image, "state": "broken" if fate < 0.04 else "missing"}, [{**whole, **corners}]
        size = self.random.choice(self.sizes)
        boxes = [self.box(size) for _ in range(len(LABELS) + len(phrases))]
        self.pil_images[digest(name)] = pil_image(size, boxes)
        image |= {"digest": digest(name), "width": size[0], "height": size[1], "state": "ok"}
        found = [{**whole, "x0": 0, "y0": 0, "x1": size[0], "y1": size[1]}]
        places = [(None, None)] * len(LABELS) + phrases
        texts = [*LABELS.values(), *(" ".join(words[start:end]) for start, end in phrases)]
        for (start, end), text, box in zip(places, texts, boxes, strict=True):
            source = "general" if start is None else "phrase"
            one = {"source": source, "text": text, "start": start, "end": end, "image_index": 0}
            found.append({**one, **dict(zip(corners, box, strict=True)), "score": round(self.random.random(), 3)})
        return image, found

    def box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        x0, y0 = self.random.randrange(size[0] - 60), self.random.randrange(size[1] - 60)
        return x0, y0, x0 + self.random.randrange(20, 60), y0 + self.random.randrange(20, 60)


def complete(line: dict[str, Any]) -> dict[str, Any]:
    """A line with the keys that a test left out, and text and offsets that fit its words."""
    text, offsets = joined(tuple(line["words"]))
    images = [{"reason": "", "synthetic": False} | image for image in line.get("images", [])]
    defaults = {"gold": None, "entities": [], "objects": [], "synthetic": False}
    return {
        **defaults, "post_id": line["id"], **line, "schema_version": SCHEMA_VERSION, "text": text,
        "offsets": [list(one) for one in offsets], "images": images,
    }  # fmt: skip


def prediction(line: dict[str, Any]) -> Prediction:
    """A line, completed, as a record."""
    return Prediction.from_json(complete(line))


def scores(lines: list[dict[str, Any]], split: str, synthetic: bool) -> dict[str, Any]:
    """The metrics file that fits the lines."""
    gold, given, right = Counter(), Counter(), Counter()
    for line in map(prediction, lines):
        gold.update(entity.type for entity in line.gold or ())
        given.update(entity.type for entity in line.predicted)
        found = outcomes(line.gold or (), line.predicted)
        right.update(line.gold[one.gold].type for one in found if one.kind == "correct")
    reading = {
        "micro": counts(sum(gold.values()), sum(given.values()), sum(right.values())),
        "types": {name: counts(gold[name], given[name], right[name]) for name in LABELS},
    }
    return {
        "schema_version": 1, "split": split, "n_posts": len(lines), "strict": reading, "lenient": reading,
        "synthetic": synthetic,
    }  # fmt: skip


def counts(n_gold: int, n_predicted: int, n_correct: int) -> dict[str, float]:
    return {
        "precision": n_correct / max(1, n_predicted),
        "recall": n_correct / max(1, n_gold),
        "f1": 2 * n_correct / max(1, n_gold + n_predicted),
        "n_gold": n_gold, "n_predicted": n_predicted, "n_correct": n_correct,
    }  # fmt: skip


def write_run(folder: Path, splits: dict[str, list[dict[str, Any]]], *, synthetic: bool = False, **config: Any) -> Path:
    """A run folder with these predictions, fitting scores, four epochs of curves, and `config` added to the model's."""
    (folder / "model").mkdir(parents=True)
    (folder / "scores").mkdir()
    settings = {"schema_version": 1, "dataset": "smoke", "approach": "fmit", "seed": 0} | {
        "labels": [list(LABELS.items()), [["OTHER", "MISC"]]],
        "config": {"epochs": 4, "layers": 3, "dim": 128},
        "dev": {"epoch": 3, "dev_f1": 0.77},
        **config,
    }
    write_json(folder / "model" / "config.json", settings)
    curves = [
        {
            "epoch": n,
            "step": 40 * n,
            "train_loss": 9.0 / n,
            "dev_precision": 0.9 - 0.3 / n,
            "dev_recall": 0.88 - 0.4 / n,
        }
        | {"dev_f1": 0.89 - 0.35 / n, "posts_per_s": 60.0}
        for n in range(1, 5)
    ]
    write_json(folder / "curves.json", curves)
    for split, lines in splits.items():
        text = "".join(json.dumps(complete(line)) + "\n" for line in lines)
        (folder / "scores" / f"predictions-{split}.jsonl").write_text(text, encoding="utf-8")
        if any(line["gold"] is not None for line in lines):
            write_json(folder / "scores" / f"metrics-{split}.json", scores(lines, split, synthetic))
    return folder


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")

"""The ground stage: decode, prepare, pass, choose, store, beside bare passes over the same tensors.

Of OWLv2 the weights are random in the released layout (base size: 12 layers, 960 pixels), since only their shapes cost
time. The detector grounder runs NanoDet-g and MiniLM with their own weights; its bare passes are the detector's on each
image and MiniLM's on each text and its head.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor

from bench import timing
from bench.stage_regions import random_crops
from cache import weights
from cache.store import Store
from pipeline import engine
from pipeline.engine import Plan
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.detector import DetectorGrounder, choose, parse
from pipeline.grounding.grounder import Grounder, TextVectors
from pipeline.grounding.owlv2 import Owlv2Grounder
from pipeline.grounding.registry import build_grounder
from pipeline.grounding.stage import STORE_SCHEMA, Query, compute
from schema.records import Image
from vision import images, nanodet
from vision.conv_layer import optimize
from vision.detectors import NANODET, Detections

SIZES = {
    "base": ({"image_size": 960, "patch_size": 16}, {}),  # the library's defaults are the base model's
    "tiny": (
        {"image_size": 64, "patch_size": 16, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
         "num_attention_heads": 2},
        {"vocab_size": 600, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
         "num_attention_heads": 2},
    ),
}  # fmt: skip
TEXTS = ("person", "place", "group", "thing", "a tall tower", "the old harbour", "two dogs", "red car", "the mayor")


def write_model(folder: Path, size: str) -> None:
    """A checkpoint as released: config, safetensors, preprocessor and CLIP's tokenizer files."""
    vision, text = SIZES[size]
    torch.manual_seed(0)
    projection: dict[str, Any] = {"projection_dim": 32} if size == "tiny" else {}
    config = Owlv2Config(vision_config=vision, text_config=text, **projection)
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    side = vision["image_size"]
    Owlv2ImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    letters = [chr(code) for code in range(33, 127)]
    marks = ["<|startoftext|>", "<|endoftext|>"]
    names = [*marks, *letters, *(letter + "</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({name: index for index, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))


def pil_images(folder: Path, n_images: int) -> list[Image]:
    return list({crop.image.digest: crop.image for crop in random_crops(folder, n_images) if crop.image}.values())


def run_stage(grounder: Grounder, folder: Path, photos: Sequence[Image], workers: int) -> None:
    """The stage without its tables: rows into an empty store, texts read again."""
    if isinstance(grounder, Owlv2Grounder):
        grounder._vectors = TextVectors(grounder._read)
    if isinstance(grounder, DetectorGrounder):
        grounder._match.cache_clear()
        grounder._encode.cache_clear()
    wanted = {f"{k:064x}": query for k, query in enumerate(Query(image, text) for image in photos for text in TEXTS)}
    plan: Plan[Query, None] = Plan("ground", wanted, {}, {})
    work = partial(compute, folder=folder, n_workers=workers)
    with tempfile.TemporaryDirectory() as place, Store(place, schema=STORE_SCHEMA) as store:
        engine.run(plan, grounder, work, store)


def run_plain_loop(grounder: Owlv2Grounder, folder: Path, photos: Sequence[Image], n_images: int) -> None:
    """Open, prepare and pass for each image and each text, as released preprocessing scripts do."""
    model = grounder._model
    with torch.no_grad():
        for image in photos[:n_images]:
            for text in TEXTS:
                pixels = grounder.prepare(images.load(folder, image)).pixels[None].to(model.device, model.dtype)
                pieces = grounder._tokenizer([text], padding="max_length", max_length=16, return_tensors="pt")
                model(pixel_values=pixels, **{k: v.to(model.device) for k, v in pieces.items()}).logits.max(1)


def batches(grounder: Owlv2Grounder, folder: Path, photos: Sequence[Image]) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels [B, 3, side, side] and text vectors [B, Q, D] of full passes."""
    size, model = grounder._n_batch, grounder._model
    vectors = grounder._vectors.of([TEXTS], size)
    texts = torch.stack([vectors[text] for text in TEXTS])
    prepared = [grounder.prepare(images.load(folder, image)).pixels for image in photos]
    for start in range(0, len(prepared) // size * size, size):
        pixels = torch.stack(prepared[start : start + size]).to(model.device, model.dtype)
        yield pixels, texts.expand(size, *texts.shape)


class Bare(nn.Module):
    """The model's own parts from pixels and text vectors to boxes and logits."""

    def __init__(self, model: Owlv2ForObjectDetection) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.model.image_embedder(pixel_values=pixels)[0]
        features = maps.flatten(1, 2)
        return self.model.box_predictor(features, maps), self.model.class_predictor(features, texts)[0]


def run_bare(forward: Callable[..., object], made: Sequence[tuple[Tensor, ...]]) -> None:
    with torch.no_grad():
        for batch in made:
            forward(*batch)


def detect_one_by_one(grounder: DetectorGrounder, network: nn.Module, folder: Path, photos: Sequence[Image]) -> None:
    """Open, prepare, detect and match image by image and text by text."""
    with torch.no_grad():
        for image in photos:
            pixels, size = grounder.prepare(images.load(folder, image))
            logits, distances = network(nanodet.standardize(pixels[None]))
            detections = Detections(*nanodet.detect(logits[0], distances[0], size))
            for text in TEXTS:
                choose(detections, grounder.match(text), size)


def measure_detector(options: argparse.Namespace) -> dict[str, object]:
    """The figures of the detector grounder with NanoDet-g; its forward passes take one image."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    grounder = build_grounder(GroundConfig(grounder="detector", device=device))
    assert isinstance(grounder, DetectorGrounder)
    photos = pil_images(options.photos, options.items)
    pixels = [grounder.prepare(images.load(options.photos, image))[0] for image in photos]
    made = [(nanodet.standardize(part[None].to(device)),) for part in pixels]
    heads = {parse(text, nanodet.CLASSES).head for text in TEXTS}

    def with_texts(network: Callable[..., object]) -> Callable[..., object]:
        """The texts' passes come with the first image's."""

        def forward(batch: Tensor) -> object:
            for text in {*TEXTS, *heads} if batch is made[0][0] else ():
                grounder._encode.__wrapped__(text)
            return network(batch)

        return forward

    eager = nanodet.load(weights.find(NANODET)).to(device)
    forms: dict[str, Callable[..., object]] = {"eager": eager}
    forms["channels-last"] = copy.deepcopy(eager).to(memory_format=torch.channels_last)
    if not options.no_compile:
        forms["compiled"] = torch.compile(copy.deepcopy(eager).to(memory_format=torch.channels_last))
    forms["ours"] = optimize(copy.deepcopy(eager), torch.device(device), torch.float32)
    plain = partial(detect_one_by_one, grounder, eager, options.photos, photos[: options.plain])
    forms = {name: with_texts(forward) for name, forward in forms.items()}
    return compare(options, grounder, photos, forms, made, plain, 1)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """The figures of one size, dtype and batch."""
    if options.net == NANODET:
        return measure_detector(options)
    with tempfile.TemporaryDirectory() as place:
        write_model(Path(place), options.net)
        config = GroundConfig(grounder="owlv2", weights=place, dtype=options.dtype, batch=options.batch)
        grounder = build_grounder(config)
        assert isinstance(grounder, Owlv2Grounder)
    photos = pil_images(options.photos, options.items)
    made = list(batches(grounder, options.photos, photos))
    size, bare = grounder._n_batch, Bare(grounder._model)
    forms: dict[str, Callable[..., object]] = {"eager": bare}
    forms["channels-last"] = copy.deepcopy(bare).to(memory_format=torch.channels_last)
    if not options.no_compile:
        forms["compiled"] = torch.compile(copy.deepcopy(bare))
    plain = partial(run_plain_loop, grounder, options.photos, photos, options.plain)
    return compare(options, grounder, photos, forms, made, plain, size)


def compare(
    options: argparse.Namespace,
    grounder: Grounder,
    photos: Sequence[Image],
    forms: Mapping[str, Callable[..., object]],
    made: Sequence[tuple[Tensor, ...]],
    plain: timing.Run,
    size: int,
) -> dict[str, object]:
    """The figures of a grounder's stage, its bare forward passes of `size` images and the plain loop."""
    device = made[0][0].device
    trials = {name: partial(run_bare, forward, made[:1]) for name, forward in forms.items()}
    runs: dict[str, tuple[timing.Run, int]] = {
        f"bare: {name}": (partial(run_bare, forms[name], made), len(made) * size)
        for name in timing.choose(trials, 0 if device.type == "cuda" else 1, size)
    }
    runs["stage"] = partial(run_stage, grounder, options.photos, photos, options.workers), len(photos)
    runs["plain loop"] = plain, min(options.plain, len(photos))
    flops = timing.count_flops(partial(run_bare, forms["eager"], made[:1])) / size
    return timing.compare(runs, options.runs, flops, str(device), options.dtype)

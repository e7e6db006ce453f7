"""The ground stage with OWLv2: decode, prepare, pass, choose, store, beside bare passes over the same tensors.

Weights are random in the released layout (base size: 12 layers, 960 pixels), since only their shapes cost time.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor

from bench import timing
from bench.stage_regions import random_crops
from cache.store import Store
from pipeline import engine
from pipeline.engine import Plan
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.owlv2 import Owlv2Grounder
from pipeline.grounding.registry import build_grounder
from pipeline.grounding.stage import STORE_SCHEMA, Query, compute
from schema.records import Image
from vision import images

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


def run_stage(grounder: Owlv2Grounder, folder: Path, photos: Sequence[Image], workers: int) -> None:
    """The stage without its tables: rows into an empty store, texts read again."""
    grounder._vectors.clear()
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
    grounder._read(TEXTS)
    texts = torch.stack([grounder._vectors[text] for text in TEXTS])
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


def run_bare(forward: Callable[..., object], made: Sequence[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for batch in made:
            forward(*batch)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """The figures of one size, dtype and batch."""
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
    trials = {name: partial(run_bare, forward, made[:1]) for name, forward in forms.items()}
    clock = 0 if grounder._model.device.type == "cuda" else 1
    runs: dict[str, tuple[timing.Run, int]] = {
        f"bare: {name}": (partial(run_bare, forms[name], made), len(made) * size)
        for name in timing.choose(trials, clock, size)
    }
    runs["stage"] = partial(run_stage, grounder, options.photos, photos, options.workers), len(photos)
    n_plain = min(options.plain, len(photos))
    runs["plain loop"] = partial(run_plain_loop, grounder, options.photos, photos, n_plain), n_plain
    flops = timing.count_flops(partial(run_bare, bare, made[:1])) / size
    return timing.compare(runs, options.runs, flops, str(grounder._model.device), options.dtype)

"""A random BERT-type encoder of a few kilobytes, as from_pretrained finds a real one, and a dataset for it."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel

from cache.packs import Objects, PackMeta, write_pack
from cache.tables import write_posts
from model.config import TrainConfig
from schema.labels import LabelSet
from schema.records import Box, Image, Post, Region, Span, Split, joined


def write_encoder(folder: Path, words: Sequence[str] = (), hidden: int = 32, seed: int = 0) -> Path:
    """A one-layer BERT over the given words, single letters and their `##` continuations."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = list(string.ascii_lowercase + string.digits + ".,:@#'")
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    vocab += sorted(set(words) - set(vocab))
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 64})
    )
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
    )
    torch.manual_seed(seed)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def tiny_config(encoder: Path, **changes: object) -> TrainConfig:
    """A configuration whose training takes about a second; only `changes` count as named by its section."""
    values: dict[str, object] = {
        "encoder": str(encoder),
        "max_pieces": 32,
        "width": 16,
        "heads": 2,
        "layers": 1,
        "dropout": 0.1,
        "batch": 8,
        "lr_encoder": 1e-3,
        "lr_head": 1e-2,
        "lr_crf": 1e-2,
        "epochs": 2,
    }
    return TrainConfig.from_section({"preset": "tiny", **changes}, "train", {"tiny": TrainConfig.checked(values, "")})


LABELS = LabelSet({"PER": "person", "LOC": "location"}, {})
DIM = 6  # floats of an object
VOCABULARY = ("the", "left", "right", "rex", "and", "here", "boat", "dog", "sees")


def post(number: int, split: Split, words: Sequence[str], tags: Sequence[str] | None) -> Post:
    text, offsets = joined(words)
    image = Image(f"{number}.png", "0" * 64, 8, 8)
    return Post(f"p{number}", split, tuple(words), text, offsets, None if tags is None else tuple(tags), (image,))


def linked(
    n_posts: int, seed: int, split: Split = "train", strength: float = 4.0, always_two: bool = False
) -> tuple[list[Post], dict[str, Objects]]:
    """Posts that only images explain: `the left rex and the right rex`, each phrase's object saying which type.

    Object order is shuffled, so nothing but its span tells whose it is; half the posts hold one name, unless
    `always_two`. `strength` is the signal's size beside noise of size 1.
    """
    rng = np.random.default_rng(seed)
    posts, objects = [], {}
    for k in range(n_posts):
        two = always_two or k % 2 == 1
        words = ["the", "left", "rex", *(["and", "the", "right", "rex"] if two else ["here"])]
        spans = [Span(0, 3), Span(4, 7)] if two else [Span(0, 3)]
        first = int(rng.integers(2))
        kinds = [first, 1 - first][: len(spans)]
        tags = ["O"] * len(words)
        features, regions = [], []
        for span, kind in zip(spans, kinds, strict=True):
            tags[span.end - 1] = f"B-{LABELS.types[kind]}"
            regions.append(Region("phrase", " ".join(words[span.start : span.end]), span, Box(0, 0, 4, 4), 0.5))
            features.append(rng.normal(size=DIM) + strength * (np.arange(DIM) % 2 == kind))
        regions.append(Region("image", "", None, Box(0, 0, 8, 8), 1.0))
        features.append(rng.normal(size=DIM) + strength / 2)
        order = rng.permutation(len(regions))
        posts.append(post(seed * 100_000 + k, split, words, tags))
        objects[posts[-1].id] = Objects(np.float32(features)[order], tuple(regions[i] for i in order))
    return posts, objects


def write_dataset(folder: Path, n_train: int = 24, n_dev: int = 8, strength: float = 4.0) -> tuple[Path, Path]:
    """posts.parquet with the splits train, dev and test, and its pack."""
    posts, objects = [], {}
    for seed, (split, n_posts) in enumerate([("train", n_train), ("dev", n_dev), ("test", n_dev)]):
        some, theirs = linked(n_posts, seed, split, strength)
        posts += some
        objects.update(theirs)
    write_posts(folder / "posts.parquet", posts, LABELS, {})
    provenance = {"regions": {"identity": {"name": "synthetic-numbers", "weights": "1"}}}
    meta = PackMeta(DIM, "float32", 2, LABELS.general_words, True, provenance)
    write_pack(folder / "pack", meta, objects.items())
    return folder / "posts.parquet", folder / "pack"

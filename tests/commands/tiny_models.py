"""A project whose settings name real kinds of models, and tiny files in the formats of those models."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

PARAMS = """
datasets: [own]
train_on: [own]
approaches: [fmit]
data:
  own:
    source: {{preset: jsonl}}
    phrases: {{preset: embedded}}
    ground: {{preset: synthetic}}
    regions: {{net: resnet18, weights: {net}}}
    train: {{preset: tiny, encoder: someone/tiny-bert}}
"""
ENCODER = "someone/tiny-bert"


def make(root: Path) -> tuple[Path, str]:
    """A folder with all that is to be fetched, and `root/params.yaml`; returns the folder and the net's name."""
    offer = root / "offer"
    encoder = offer / "tiny-bert"
    encoder.mkdir(parents=True)
    (encoder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ann", "in", "rome"]
    (encoder / "vocab.txt").write_text("\n".join(words) + "\n")
    (encoder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    (encoder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    save_file({"w": torch.ones(8)}, encoder / "model.safetensors")
    torch.save({"w": torch.ones(8)}, offer / "net.pth")
    digest = hashlib.sha256((offer / "net.pth").read_bytes()).hexdigest()
    name = f"resnet18-{digest[:8]}.pth"
    (offer / "net.pth").rename(offer / name)
    (root / "params.yaml").write_text(PARAMS.format(net=name))
    return offer, name


def embed(target: Path, source: Path) -> None:
    """A copy of the embedded weights that a test may damage."""
    shutil.copytree(source, target)

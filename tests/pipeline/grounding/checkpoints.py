"""Tiny models with random weights in the real formats: file names, keys, settings, tokenizer files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    BertConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    SwinConfig,
)

OWL_PX = 64  # of the square that OWLv2 sees
DINO_PIECES = 24  # of a text that Grounding DINO reads in one pass
WORDS = ("a", "the", "in", "tiny", "red", "dog", "cat", "st", "louis", "person", "place", "u", "s", "park", "left")
SETTINGS = {
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "do_resize": True,
    "do_pad": True,
    "resample": 2,
}


def owlv2(folder: Path, seed: int = 0) -> Path:
    """A folder such as google/owlv2-base-patch16-ensemble, with 16 patches an image."""
    torch.manual_seed(seed)
    vocabulary = _clip_files(folder)
    text = {"vocab_size": len(vocabulary), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "bos_token_id": len(vocabulary) - 2, "eos_token_id": len(vocabulary) - 1}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": OWL_PX, "patch_size": 16}
    model = Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=16))
    _shake(model, 0.2, weak=("box_head", "class_head.logit"))
    model.save_pretrained(folder)
    settings = {**SETTINGS, "image_processor_type": "Owlv2ImageProcessor", "processor_class": "Owlv2Processor"}
    settings |= {"image_mean": [0.481, 0.458, 0.408], "image_std": [0.269, 0.261, 0.276]}
    write_json(folder / "preprocessor_config.json", settings | {"size": {"height": OWL_PX, "width": OWL_PX}})
    return folder


def grounding_dino(folder: Path, seed: int = 0) -> Path:
    """A folder such as IDEA-Research/grounding-dino-tiny: Swin backbone, BERT, 15 boxes an image."""
    torch.manual_seed(seed)
    words = [f"[unused{i}]" for i in range(1100)]
    for index, word in ((0, "[PAD]"), (100, "[UNK]"), (101, "[CLS]"), (102, "[SEP]"), (103, "[MASK]"), (1012, ".")):
        words[index] = word
    words[1029] = "?"
    words[1030 : 1030 + len(WORDS)] = WORDS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    swin = SwinConfig(image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4)
    swin.out_features = ["stage2", "stage3", "stage4"]
    config = GroundingDinoConfig(
        backbone_config=swin,
        text_config=BertConfig(vocab_size=len(words), **sizes),
        d_model=64,
        encoder_layers=1,
        encoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_layers=2,
        decoder_ffn_dim=32,
        decoder_attention_heads=4,
        num_queries=15,
        max_text_len=DINO_PIECES,
    )
    model = GroundingDinoForObjectDetection(config)
    _shake(model, 0.2, skipped=("sampling_offsets",))
    model.save_pretrained(folder)
    settings = {**SETTINGS, "image_processor_type": "GroundingDinoImageProcessor", "format": "coco_detection"}
    settings |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    write_json(folder / "preprocessor_config.json", settings | {"size": {"shortest_edge": 48, "longest_edge": 80}})
    return folder


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """An image of coarse noise."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _shake(model: torch.nn.Module, by: float, *, skipped: tuple[str, ...] = (), weak: tuple[str, ...] = ()) -> None:
    """Weights so far from their start that patches and words differ; `weak` parts answer between the extremes."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if any(part in name for part in weak):
                value.normal_(0, 0.1)
            elif value.dim() > 1 and not any(part in name for part in skipped):
                value.add_(torch.randn_like(value) * by)


def _clip_files(folder: Path) -> dict[str, int]:
    """CLIP's tokenizer without merges but one: a piece is a byte. `!` pads, the last piece ends a text."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in kept]
    signs = [chr(byte) for byte in kept] + [chr(256 + i) for i in range(len(rest))]
    pieces = [*signs, *(f"{sign}</w>" for sign in signs), "do", "dog</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    write_json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("#version: 0.2\nd o\ndo g</w>\n", encoding="utf-8")
    ends = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "!",
    }
    write_json(folder / "special_tokens_map.json", ends)
    write_json(folder / "tokenizer_config.json", {**ends, "tokenizer_class": "CLIPTokenizer", "model_max_length": 16})
    return vocabulary

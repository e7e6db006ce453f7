"""The one-stage grounder at its published size (Yang et al., ICCV 2019), from a folder that the converter wrote.

A folder holds `config.json`, `model.safetensors` and the words of its text encoder: `vocab.txt` (BERT) or `words.txt`.
Shapes as in `onestage`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig

from cache import keys, weights
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.darknet import Darknet
from pipeline.grounding.letterbox import paper_letterbox
from pipeline.grounding.onestage import Head, OneStage, Sizes, anchor_grid, conv, sizes_of
from pipeline.grounding.onestage_grounder import OneStageGrounder
from pipeline.grounding.onestage_text import BertText, Corpus, LstmText, Pieces
from schema.errors import WeightsError

VERSION = "1"  # of everything between a picture and its boxes that the weights' digest does not cover
FORMAT = 1  # of config.json
MODEL_TYPE = "onestage"
FILES = {"bert": "vocab.txt", "lstm": "words.txt"}
PUBLISHED = "https://github.com/zyang-ur/onestage_grounding"


class PaperHead(Head):
    """Fusion by three convolutions, 1x1, 3x3 and 1x1, then a 1x1 to half the width and the answers; all with ReLUs."""

    def __init__(self, width: int, n_anchors: int) -> None:
        super().__init__(width, n_anchors)
        self.mixed = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            conv(width, width, 3, slope=0.0),
            conv(width, width, 1, slope=0.0),
            conv(width, width // 2, 1, slope=0.0),
        )
        self.answer = nn.Conv2d(width // 2, self.answer.out_channels, 1)


class PaperOneStage(OneStage):
    """The whole network: Darknet-53 and one of the two text encoders, brought to the common width by two layers."""

    max_log = math.inf

    def __init__(self, sizes: Sizes, text: BertText | LstmText) -> None:
        nn.Module.__init__(self)  # the parts of OneStage are others
        self.sizes = sizes
        self.backbone = Darknet(sizes)  # type: ignore[assignment]
        width = sizes.width
        first = [nn.Linear(text.dim, width), nn.BatchNorm1d(width), nn.ReLU()]
        self.encoder = nn.Sequential(text, *first, nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU())  # type: ignore[assignment]
        self.heads = nn.ModuleList(PaperHead(width, len(pairs)) for pairs in sizes.anchors)
        self.register_buffer("grid", anchor_grid(sizes), persistent=False)

    def read(self, words: Tensor) -> Tensor:
        """int64 [Q, W], 0 pads -> queries [Q, D]."""
        return self.encoder(words)


def build(settings: dict[str, Any]) -> PaperOneStage:
    """The network that `config.json` describes, with random weights."""
    kind, text = settings["text"], settings["text_sizes"]
    reader = BertText(BertConfig(**text)) if kind == "bert" else LstmText(**text)
    return PaperOneStage(sizes_of(settings["sizes"]), reader)


def load(config: GroundConfig) -> OneStageGrounder:
    """The grounder from the folder that the parameters name; raises WeightsError."""
    folder = _folder(config.source())
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if settings.get("model_type") != MODEL_TYPE or settings.get("format") != FORMAT:
            found = f"{settings.get('model_type')}, format {settings.get('format')}"
            raise WeightsError("no one-stage grounder that this version reads", where=str(folder), found=found)
        network = build(settings)
        words = folder / FILES[settings["text"]]
        reader = Pieces(words) if settings["text"] == "bert" else Corpus(words.read_text("utf-8").splitlines())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"[:200]
        raise WeightsError("no whole one-stage grounder", where=str(folder), found=found, todo=_todo(folder)) from None
    _fill(network, folder / "model.safetensors")
    identity = {"name": config.grounder, "version": VERSION, "weights": digest(folder)}
    network = network.to(config.torch_device()).requires_grad_(False)
    return OneStageGrounder(network, reader, identity, toy=False, box=paper_letterbox, n_threads=None)


def digest(folder: Path) -> str:
    """One sha256 for settings, weights and words: what `fmit models verify` shows of the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return keys.key("model-folder", files={str(path.relative_to(folder)): keys.digest_file(path) for path in files})


def _fill(network: PaperOneStage, path: Path) -> None:
    tensors, _ = weights.load_safetensors(path)
    try:
        network.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    except RuntimeError as error:
        found = str(error).splitlines()[1].strip()[:200]
        raise WeightsError("weights of another network", where=str(path), found=found) from None


def _folder(name: str) -> Path:
    for path in (Path(name).expanduser(), weights.folder() / name):
        if path.is_dir():
            return path
    raise WeightsError(f"no one-stage grounder {name!r} on this machine", todo=_todo(weights.folder() / name))


def _todo(folder: Path) -> str:
    return f"get a released .pth.tar ({PUBLISHED}), then: fmit models convert onestage FILE.pth.tar {folder}"

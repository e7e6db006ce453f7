"""The configuration: every field decides something, `paper` is appendix A, misfits are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model.config import PRESETS, TrainConfig, VisionConfig
from schema.errors import ConfigError

ROOM = Path(__file__).parents[2] / "model"


@pytest.mark.parametrize("name", sorted(TrainConfig.model_fields))
def test_every_field_is_read(name: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in ROOM.rglob("*.py") if path.name != "config.py"]
    assert any(re.search(rf"config\.{name}\b", source) for source in sources)


@pytest.mark.parametrize("name", sorted(VisionConfig.model_fields))
def test_every_field_of_vision_is_read(name: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in ROOM.rglob("*.py")]
    assert any(re.search(rf"vision\.{name}\b", source) for source in sources)


def test_crops_are_read_where_something_is_seen() -> None:
    tuned = TrainConfig.checked({"vision": {"finetune": True}}, "train")
    assert (tuned.reads_crops, TrainConfig().reads_crops) == (True, False)
    assert not TrainConfig.checked({"vision": {"finetune": True}, "objects": "none"}, "train").reads_crops
    assert not TrainConfig.checked({"vision": {"finetune": True}, "control": "empty"}, "train").reads_crops
    assert PRESETS["paper"].vision.lr == PRESETS["paper"].lr_encoder == 5e-5, "appendix A: of pretrained models"


def test_paper_is_appendix_a() -> None:
    paper = PRESETS["paper"]
    appendix = {
        "encoder": "bert-base-cased",
        "max_pieces": 128,
        "batch": 16,
        "width": 512,
        "heads": 8,
        "layers": 3,
        "dropout": 0.2,
        "ebd_weight": 0.25,
        "lr_encoder": 5e-5,
        "lr_head": 2e-4,
        "lr_crf": 2e-4,
        "objects": "all",
        "control": "none",
        "relative": True,
    }
    assert {name: getattr(paper, name) for name in appendix} == appendix


def test_presets_by_section() -> None:
    config = TrainConfig.from_section({"preset": "smoke", "layers": 2}, "data.smoke.train", PRESETS)
    assert config == PRESETS["smoke"].model_copy(update={"layers": 2})


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"width": 100, "heads": 8}, "width 100 must be even and a multiple of heads 8"),
        ({"layer": 3}, "data.x.train.layer: unknown key, did you mean layers?"),
        ({"vision": {"finetun": True}}, "data.x.train.vision.finetun: unknown key, did you mean finetune?"),
        ({"vision": {"lr": -1.0}}, "data.x.train.vision.lr"),
        ({"vision": {"finetune": True}, "objects": "grid"}, "objects: grid comes from the pack only"),
        ({"preset": "big"}, "unknown preset 'big'"),
        ({"dropout": 1.0}, "data.x.train.dropout"),
        ({"objects": "boxes"}, "'phrases', 'general', 'image', 'grid' or 'none'"),
    ],
)
def test_refuses(section: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        TrainConfig.from_section(section, "data.x.train", PRESETS)

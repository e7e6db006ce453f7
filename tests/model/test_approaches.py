"""Every named approach builds and learns from a batch; names and changes are what the tables call them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.approaches import ADA_CO_ATT, APPROACHES, BILSTM, approach
from model.config import PRESETS, TrainConfig
from model.data import PostDataset, collate
from model.objects import FromMemory
from model.tagger import ModelSpec
from model.trainer import build_optimizer
from schema.errors import ConfigError
from tests.model.tiny import DIM, LABELS, linked, tiny_config


@pytest.mark.parametrize("name", sorted(APPROACHES))
def test_learns_from_a_batch(encoder: Path, name: str) -> None:
    config = approach(name).configure(tiny_config(encoder, dropout=0.0))
    torch.manual_seed(0)
    posts, objects = linked(6, 2)
    tagger = approach(name).build(ModelSpec(config, LABELS, DIM, None, [post.words for post in posts]))
    dataset = PostDataset(posts, FromMemory(objects), LABELS, tagger.featurizer, config)
    batch = collate([dataset[row] for row in range(6)], tagger.featurizer)
    optimizer = build_optimizer(tagger.eval(), config)
    losses = []
    for _ in range(4):
        loss = tagger.losses(batch).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert tagger.emissions(batch).shape == (6, 7, len(LABELS.tags))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("fmit", {}),
        ("fmit-l1", {"layers": 1}),
        ("fmit-l12", {"layers": 12}),
        ("fmit-no-obj", {"objects": "grid"}),
        ("fmit-no-rel", {"relative": False}),
        ("fmit-no-ebd", {"ebd": "off"}),
        ("fmit-shuffled", {"control": "shuffled"}),
        ("bert-crf", {"objects": "none"}),
        ("bert", {"objects": "none"}),
        ("umt", {"objects": "grid", "ebd_weight": 0.5, "dropout": 0.5, "epochs": 12, "patience": 12}),
        ("umgf", {"objects": "grounded", "layers": 2}),
        ("vg-att", {**BILSTM, "objects": "grid"}),
    ],
)
def test_changes_the_section(name: str, changes: dict[str, object]) -> None:
    config = tiny_config(Path("none"))
    assert approach(name).configure(config) == config.model_copy(update=changes)


@pytest.mark.parametrize(
    ("name", "section", "changes"),
    [
        ("ada-co-att", {"lr_head": 7e-3}, {**ADA_CO_ATT, "objects": "grid", "lr_head": 7e-3}),
        ("cnn-bilstm-crf", {"epochs": 3, "objects": "all"}, {**BILSTM, "objects": "none", "epochs": 3}),
        ("umt", {"dropout": 0.2}, {"objects": "grid", "ebd_weight": 0.5, "dropout": 0.2, "epochs": 12, "patience": 12}),
        ("umgf", {"layers": 4, "objects": "image"}, {"objects": "grounded", "layers": 2}),
        ("umgf", {"heads": 2, "ffn_dim": 32}, {"objects": "grounded", "layers": 2, "heads": 2, "ffn_dim": 32}),
        ("fmit-l6", {"layers": 4}, {"layers": 6}),
    ],
)
def test_what_a_section_names_wins_over_defaults(
    name: str, section: dict[str, object], changes: dict[str, object]
) -> None:
    config = TrainConfig.from_section({"preset": "smoke", **section}, "data.smoke.train", PRESETS)
    assert approach(name).configure(config) == PRESETS["smoke"].model_copy(update=changes)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"params.yaml approaches: unknown approach 'xyz'; use one of fmit, fmit-l1, .*bert-crf"
    ):
        approach("xyz")
    with pytest.raises(
        ConfigError, match=r"unknown approach 'fmit-txt'; did you mean fmit-text\? The approaches are fmit, fmit-l1"
    ):
        approach("fmit-txt")

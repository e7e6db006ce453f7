"""The card says what a finder asks."""

from __future__ import annotations

from pathlib import Path

from model.card import card
from model.checkpoint import load_run


def test_a_card_names_scores_data_settings_and_deviations(run_folder: Path) -> None:
    info, _ = load_run(run_folder / "model")
    text = card(info)
    assert text == (run_folder / "model" / "card.md").read_text(encoding="utf-8")
    for part in (
        "# fmit, seed 0",
        "Flat Multi-modal Interaction Transformer",
        f"| dev_f1 | {info.dev['dev_f1']} |",
        f"| posts | {info.inputs['posts']} |",
        "| lr_head | 0.01 |",
        '- regions: `{"name": "toy-numbers", "weights": "1"}`',
        "Types: PER (person), LOC (location).",
        "the paper fine-tunes its ResNet",
        "**Toy:**",
        f"| torch | {info.versions['torch']} |",
    ):
        assert part in text

"""The card says what a finder asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from model.checkpoint import card, load_run
from model.config import VisionConfig
from schema.labels import LabelSet


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
        '- regions: `{"name": "synthetic-numbers", "weights": "1"}`',
        "Types: PER (person), LOC (location).",
        "the paper fine-tunes its ResNet",
        "**Synthetic:**",
        f"| torch | {info.versions['torch']} |",
    ):
        assert part in text


def test_a_card_says_whether_the_network_was_trained_too(run_folder: Path) -> None:
    info, _ = load_run(run_folder / "model")
    tuned = info.config.model_copy(update={"vision": VisionConfig(finetune=True)})
    text = card(replace(info, config=tuned))
    assert "The region network is trained too, as in the paper" in text
    assert "are read from the pack" not in text
    text = card(replace(info, config=tuned.model_copy(update={"objects": "none"})))
    assert "region network" not in text  # no image is looked at
    assert "are read from the pack" not in text


def test_a_baselines_card_does_not_call_it_fmit(run_folder: Path) -> None:
    info, _ = load_run(run_folder / "model")
    assert "Approach: FMIT as configured in the dataset's section.\n\nMethod: Lu, Zhang" in card(info)
    text = card(replace(info, approach="hbilstm-crf"))
    assert "Approach: text only: Lample et al. 2016, no pretrained encoder.\n\nA baseline of: Lu, Zhang" in text
    assert "Method:" not in text
    assert "boundary label" not in text


def test_a_card_names_the_known_variant_or_warns(run_folder: Path) -> None:
    info, _ = load_run(run_folder / "model")
    sources = {"train": {"file": "train.txt", "sha256": "a" * 64}}
    known = card(replace(info, data={"variant": "twitter2017-umt", "warning": "", "sources": sources}))
    assert "Known variant: twitter2017-umt." in known
    assert f"- train: sha256 {'a' * 64}" in known
    assert "Warning" not in known
    assert "**Warning:** no known variant of twitter2015." in card(
        replace(info, data={"variant": "", "warning": "no known variant of twitter2015"})
    )


def test_labels_cannot_inject_markup(run_folder: Path) -> None:
    info, _ = load_run(run_folder / "model")
    labels = LabelSet({"<script>alert(1)</script>": "[x](javascript:alert(2))", "A|B": "\x1b[31mred\u202e"}, {})
    text = card(replace(info, labels=labels, inputs={"<img src=x>": "a`b"}))
    assert r"\<script\>alert(1)\</script\> (\[x\](javascript:alert(2)))" in text
    assert r"A\|B (\[31mred)" in text
    assert not set(text) & set("\x1b\u202e")

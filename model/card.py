"""The card of a run: for people who find the folder and want to know what is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model.approaches import approach
from model.tagger import build_fmit
from schema.text import plain_markdown, safe_text

if TYPE_CHECKING:
    from model.checkpoint import RunInfo

PAPER = (
    "Lu, Zhang, Zhang and Zhang: Flat Multi-modal Interaction Transformer for Named Entity Recognition (COLING 2022)"
)
FEATURES = "Region features come ready from the pack; the paper fine-tunes its ResNet."
TUNED = "The network over the regions is trained too, as in the paper; its batch norm keeps pretraining's statistics."
OURS = (
    "A word's vector is that of one or all of its pieces (`pooling`); labels are on words.",
    "A one-word entity has the boundary label B.",
)
COMMON = (
    "The loss is the mean over a step's posts, not their sum.",
    "The epoch with the best strict dev F1 is kept; the paper does not say how it chose.",
)


def card(info: RunInfo) -> str:
    """Markdown: what it is, how good on dev, from which data, with which settings, what differs from the paper."""
    known = approach(info.approach)
    is_fmit = known.build is build_fmit
    lines = [f"# {info.approach}, seed {info.seed}", "", f"Approach: {plain_markdown(known.about)}.", ""]
    lines += [f"{'Method' if is_fmit else 'A rival of'}: {PAPER}.", ""]
    if info.toy:
        lines += ["**Toy:** its region features come from parts that were trained on drawings.", ""]
    lines += ["## Dev scores (strict IOB2 spans, micro)", "", *_table(info.dev), ""]
    lines += ["## Data", "", *_data(info.data), *_table({**info.n_posts, **info.inputs}), ""]
    if any(info.n_cut.values()):
        told = ", ".join(f"{plain_markdown(name)} {n}" for name, n in info.n_cut.items())
        lines += [f"Objects that a cap or truncation kept from the lattice: {told}.", ""]
    types = ", ".join(f"{plain_markdown(name)} ({plain_markdown(word)})" for name, word in info.labels.words.items())
    lines += [f"Types: {types}.", ""]
    for name, part in sorted(info.pack.provenance.items() if info.pack else ()):
        identity = safe_text(json.dumps(part.get("identity", part), sort_keys=True), None).replace("`", "'")
        lines += [f"- {plain_markdown(name)}: `{identity}`"]
    lines += ["", "## Settings", "", *_table(info.config.model_dump()), ""]
    pictures = () if info.config.objects == "none" else (TUNED if info.config.reads_crops else FEATURES,)
    said = (*pictures, *(OURS if is_fmit else ()), *COMMON)
    lines += ["## Beside the paper", "", *(f"- {line}" for line in said), ""]
    lines += ["## Versions", "", *_table(info.versions), ""]
    return "\n".join(lines)


def _data(data: Mapping[str, Any]) -> list[str]:
    """What ingest noted of the files: the known variant that they are, or that they are none, and their digests."""
    told = []
    if data.get("warning"):
        told = [f"**Warning:** {plain_markdown(data['warning'])}.", ""]
    elif data.get("variant"):
        told = [f"Known variant: {plain_markdown(data['variant'])}.", ""]
    files = data.get("sources", {}).items()
    return told + [f"- {plain_markdown(split)}: sha256 {one['sha256']}" for split, one in files] + [""] * bool(files)


def _table(values: Mapping[str, Any]) -> list[str]:
    return [
        "| | |",
        "|---|---|",
        *(f"| {plain_markdown(name)} | {plain_markdown(value)} |" for name, value in sorted(values.items())),
    ]

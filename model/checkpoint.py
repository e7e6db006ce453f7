"""A run on disk: weights, configuration, the encoder's files and a card for people, published together or not at all.

model/{weights.safetensors, config.json, card.md, encoder/}
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cache import atomic
from cache.packs import PackMeta
from model.approaches import approach
from model.config import TrainConfig
from model.crops import crop_network
from model.tagger import FMIT, ModelSpec, Tagger
from schema.errors import FmitError, PackError, RunError, WeightsError
from schema.labels import LabelSet
from schema.text import plain_markdown, safe_text

SCHEMA_VERSION = 1  # of config.json and the folder
OLD_CROP_NET = r"^images\."  # what earlier versions called the weights of the crop network
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pytorch-crf", "fmit")  # whose versions decide numbers
PAPER = (
    "Lu, Zhang, Zhang and Zhang: Flat Multi-modal Interaction Transformer for Named Entity Recognition (COLING 2022)"
)
FEATURES = "Region features are read from the pack; the paper fine-tunes its ResNet."
TUNED = "The region network is trained too, as in the paper; its batch norm keeps the statistics of pretraining."
OURS = (
    "A word's vector comes from one or all of its pieces (`pooling`); labels are on words.",
    "A one-word entity has the boundary label B.",
)
MEAN_LOSS = "The loss is the mean over a step's posts, not their sum."
BEST_EPOCH = "The epoch with the best strict dev F1 is kept; the paper does not say how it chose."


@dataclass(frozen=True)
class RunInfo:
    """Everything about a run except its weights. `pack`: the metadata of the training pack; None: text only."""

    approach: str
    seed: int
    config: TrainConfig
    labels: LabelSet
    pack: PackMeta | None
    inputs: Mapping[str, str] = field(default_factory=dict)  # digests of posts, pack and starting weights
    n_posts: Mapping[str, int] = field(default_factory=dict)  # of train and dev
    dev: Mapping[str, float | int] = field(default_factory=dict)  # the published epoch's row of curves.json
    versions: Mapping[str, str] = field(default_factory=dict)
    n_cut: Mapping[str, int] = field(default_factory=dict)  # objects that the cap or truncation left out, by split
    data: Mapping[str, Any] = field(
        default_factory=dict
    )  # what ingest recorded of the source: variant, digests, scheme
    n_cut_phrases: Mapping[str, int] = field(default_factory=dict)  # those of n_cut that belong to noun phrases
    selection: str = ""  # why the published epoch is not the one with the best dev F1; "": it is
    warnings: tuple[str, ...] = ()  # about the data, as training printed them

    @property
    def synthetic(self) -> bool:
        """Whether it reads objects from parts that were trained on drawings."""
        return self.pack is not None and self.pack.synthetic and self.config.objects != "none"

    @property
    def object_dim(self) -> int:
        """Floats of an object's features; 1 if the run has no pack."""
        return self.pack.dim if self.pack else 1

    def to_json(self) -> dict[str, Any]:
        """JSON values; types and aliases are lists of pairs, because their order gives the tags their ids."""
        names = ("inputs", "n_posts", "n_cut", "n_cut_phrases", "dev", "versions", "data")
        values = {name: dict(getattr(self, name)) for name in names}
        return {
            "schema_version": SCHEMA_VERSION,
            "approach": self.approach,
            "seed": self.seed,
            "config": self.config.model_dump(),
            "labels": [list(self.labels.words.items()), list(self.labels.aliases.items())],
            "pack": asdict(self.pack) if self.pack else None,
            "selection": self.selection,
            "warnings": list(self.warnings),
            **values,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> RunInfo:
        """The inverse of `to_json`; raises RunError for another schema version or JSON that is not of a run."""
        version = values.get("schema_version") if isinstance(values, Mapping) else None
        if version != SCHEMA_VERSION:
            what = f"this version of fmit reads runs of schema version {SCHEMA_VERSION}"
            raise RunError(what, where=where, found=f"version {version}", todo="train again")
        try:
            rest = {name: values[name] for name in ("approach", "seed", "inputs", "n_posts", "dev", "versions")}
            types, aliases = values["labels"]
            return cls(
                config=TrainConfig.checked(values["config"], "config"),
                labels=LabelSet(dict(types), dict(aliases)),
                pack=PackMeta(**values["pack"]) if values["pack"] else None,
                n_cut=values.get("n_cut", {}),  # runs of earlier versions lack this and what follows
                data=values.get("data", {}),
                n_cut_phrases=values.get("n_cut_phrases", {}),
                selection=values.get("selection", ""),
                warnings=tuple(values.get("warnings", ())),
                **rest,
            )
        except (KeyError, TypeError, ValueError, AttributeError, FmitError) as error:
            what, found = "not a run's config.json", f"{type(error).__name__} {error}"
            raise RunError(what, where=where, found=found, todo="train again") from None

    def check_pack(self, meta: PackMeta, where: str) -> None:
        """Raises PackError if the features come from another region network than those of the training pack."""
        if self.pack is None or self.config.objects == "none" or self.config.reads_crops:  # their own network
            return
        ours, theirs = region_net(self.pack) | {"dim": self.pack.dim}, region_net(meta) | {"dim": meta.dim}
        if differing := [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]:
            trained = ", ".join(f"{name} {ours.get(name)}" for name in differing)
            raise PackError(
                f"the run was trained on region features with {trained}",
                where=where,
                found=", ".join(f"{name} {theirs.get(name)}" for name in differing),
                todo="make the pack with the run's region weights, or train on this one",
            )


def region_net(meta: PackMeta) -> dict[str, Any]:
    """The identity of the network that computed a pack's features."""
    return dict(meta.provenance.get("regions", {}).get("identity", {}))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def save_run(folder: Path, info: RunInfo, tagger: Tagger) -> None:
    """Publish the run as `folder`; replaces an existing run once everything is written."""
    weights = {name: value.detach().cpu().contiguous() for name, value in tagger.state_dict().items()}
    with atomic.folder(folder) as new:
        save_file(weights, new / "weights.safetensors")
        (new / "encoder").mkdir()
        tagger.save_assets(new / "encoder")
        atomic.write_json(new / "config.json", info.to_json())
        (new / "card.md").write_text(card(info), encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """Whether `folder` holds a run of this schema version with complete weights; reads no tensor."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        with safe_open(folder / "weights.safetensors", framework="pt") as weights:
            return bool(weights.keys()) and isinstance(values, dict) and values.get("schema_version") == SCHEMA_VERSION
    except (OSError, ValueError, SafetensorError):
        return False


def load_run(folder: Path) -> tuple[RunInfo, Tagger]:
    """The run in `folder` on the CPU, in eval mode; needs no network. Raises RunError if it is incomplete."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "weights.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        todo = "train it, or pull it (dvc pull)"
        raise RunError("no readable run", where=str(folder), found=type(error).__name__, todo=todo) from None
    info = RunInfo.from_json(values, str(folder))
    rng = torch.get_rng_state()  # building draws weights, which are then replaced
    try:
        tagger = approach(info.approach).build(ModelSpec(info.config, info.labels, info.object_dim, folder / "encoder"))
    except WeightsError as error:
        what, todo = "the run lacks its encoder's files", "pull the run again (dvc pull), or train again"
        raise RunError(what, where=str(folder / "encoder"), found=error.found, todo=todo) from None
    tagger.crop_net = crop_network(info.config, info.pack, trained=True)
    torch.set_rng_state(rng)
    weights = {re.sub(OLD_CROP_NET, "crop_net.", name): value for name, value in weights.items()}
    try:
        tagger.load_state_dict(weights)
    except RuntimeError as error:
        found = str(error).splitlines()[-1].strip()
        raise RunError("the weights do not fit the code", where=str(folder), found=found, todo="train again") from None
    return info, tagger.eval()


def card(info: RunInfo) -> str:
    """Markdown: approach, dev scores, data, settings, and the differences from the paper."""
    details = approach(info.approach)
    is_fmit = details.build is FMIT
    lines = [f"# {info.approach}, seed {info.seed}", "", f"Approach: {plain_markdown(details.about)}.", ""]
    lines += [f"{'Method' if is_fmit else 'A baseline of'}: {PAPER}.", ""]
    if info.synthetic:
        lines += ["**Synthetic:** its region features come from parts trained on drawings.", ""]
    lines += [line for warning in info.warnings for line in (f"**Warning:** {plain_markdown(warning)}.", "")]
    lines += ["## Dev scores (strict IOB2 spans, micro)", "", *_table(info.dev), ""]
    lines += ["## Data", "", *_data(info.data), *_table({**info.n_posts, **info.inputs}), ""]
    if any(info.n_cut.values()):
        phrases = {name: f", of these {n} of phrases" for name, n in info.n_cut_phrases.items()}
        counts = "; ".join(f"{plain_markdown(name)} {n}{phrases.get(name, '')}" for name, n in info.n_cut.items())
        lines += [f"Objects that the cap or truncation left out of the lattice: {counts}.", ""]
    types = ", ".join(f"{plain_markdown(name)} ({plain_markdown(word)})" for name, word in info.labels.words.items())
    lines += [f"Types: {types}.", ""]
    for name, part in sorted(info.pack.provenance.items() if info.pack else ()):
        identity = safe_text(json.dumps(part.get("identity", part), sort_keys=True), None).replace("`", "'")
        lines += [f"- {plain_markdown(name)}: `{identity}`"]
    lines += ["", "## Settings", "", *_table(info.config.model_dump()), ""]
    images = () if info.config.objects == "none" else (TUNED if info.config.reads_crops else FEATURES,)
    selection = BEST_EPOCH if not info.selection else plain_markdown(info.selection) + "."
    differences = (*images, *(OURS if is_fmit else ()), MEAN_LOSS, selection)
    lines += ["## Differences from the paper", "", *(f"- {line}" for line in differences), ""]
    lines += ["## Versions", "", *_table(info.versions), ""]
    return "\n".join(lines)


def _data(data: Mapping[str, Any]) -> list[str]:
    """What ingest recorded of the files: the known variant, or a warning that it is none, and their digests."""
    lines = []
    if data.get("warning"):
        lines = [f"**Warning:** {plain_markdown(data['warning'])}.", ""]
    elif data.get("variant"):
        lines = [f"Known variant: {plain_markdown(data['variant'])}.", ""]
    files = data.get("sources", {}).items()
    return lines + [f"- {plain_markdown(split)}: sha256 {one['sha256']}" for split, one in files] + [""] * bool(files)


def _table(values: Mapping[str, Any]) -> list[str]:
    return [
        "| | |",
        "|---|---|",
        *(f"| {plain_markdown(name)} | {plain_markdown(value)} |" for name, value in sorted(values.items())),
    ]

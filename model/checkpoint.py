"""A run on disk: weights, configuration, the encoder's files and a card for people, published together or not at all.

model/{weights.safetensors, config.json, card.md, encoder/}
"""

import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import jinja2
import torch
from safetensors import SafetensorError
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
NOT_IN_EARLIER_RUNS = ("n_cut", "n_cut_phrases", "data", "selection")
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pytorch-crf", "fmit")  # whose versions decide numbers
CARD = Path(__file__).parent / "card.md.jinja"


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
    data: Mapping[str, Any] = field(default_factory=dict)  # what ingest recorded: variant, digests, scheme
    n_cut_phrases: Mapping[str, int] = field(default_factory=dict)  # those of n_cut that belong to noun phrases
    selection: str = ""  # why the published epoch is not the one with the best dev F1; "": it is
    warnings: tuple[str, ...] = ()  # about the data, as training printed them

    @property
    def synthetic(self) -> bool:
        """Whether it reads objects from parts that were trained on drawings."""
        return self.pack is not None and self.pack.synthetic and self.config.objects != "none"

    def to_json(self) -> dict[str, Any]:
        """JSON values; types and aliases are lists of pairs, because their order gives the tags their ids."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "schema_version": SCHEMA_VERSION,
            "config": self.config.model_dump(),
            "labels": [list(self.labels.words.items()), list(self.labels.aliases.items())],
            "pack": asdict(self.pack) if self.pack else None,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> Self:
        """The inverse of `to_json`; raises RunError for a different schema version or JSON that is not a run's."""
        version = values.get("schema_version") if isinstance(values, Mapping) else None
        if version != SCHEMA_VERSION:
            what = f"this version of fmit reads runs of schema version {SCHEMA_VERSION}"
            raise RunError(what, where=where, found=f"version {version}", todo="train again")
        try:
            types, aliases = values["labels"]
            return cls(
                config=TrainConfig.checked(values["config"], "config"),
                labels=LabelSet(dict(types), dict(aliases)),
                pack=PackMeta.from_json(values["pack"]) if values["pack"] else None,
                warnings=tuple(values.get("warnings", ())),
                **{name: values[name] for name in ("approach", "seed", "inputs", "n_posts", "dev", "versions")},
                **{name: values[name] for name in NOT_IN_EARLIER_RUNS if name in values},
            )
        except FmitError as error:
            raise RunError(error.what, where=where, found=error.found, todo="train again") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what, found = "not a run's config.json", f"{type(error).__name__} {error}"
            raise RunError(what, where=where, found=found, todo="train again") from None

    def check_pack(self, meta: PackMeta, where: str) -> None:
        """Raises PackError if the features come from another region network than those of the training pack."""
        if self.pack is None or self.config.objects == "none" or self.config.reads_crops:  # their own network
            return
        ours, theirs = (
            {"dim": pack.dim, **pack.provenance.get("regions", {}).get("identity", {})} for pack in (self.pack, meta)
        )
        if differing := [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]:
            trained, found = (", ".join(f"{name} {net.get(name)}" for name in differing) for net in (ours, theirs))
            todo = "build the pack with the run's region weights, or train on this one"
            raise PackError(
                f"the run was trained on region features with {trained}", where=where, found=found, todo=todo
            )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


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
        tagger.words.save(new / "encoder")
        atomic.write_json(new / "config.json", info.to_json())
        (new / "card.md").write_text(card(info), encoding="utf-8")


def load_run(folder: Path) -> tuple[RunInfo, Tagger]:
    """The run in `folder` on the CPU, in eval mode; needs no network. Raises RunError if it is incomplete."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "weights.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        todo = "train it, or pull it (dvc pull)"
        raise RunError("cannot read the run", where=str(folder), found=type(error).__name__, todo=todo) from None
    info = RunInfo.from_json(values, str(folder))
    rng = torch.get_rng_state()  # building draws weights, which are then replaced
    spec = ModelSpec(info.config, info.labels, info.pack.dim if info.pack else 1, folder / "encoder")
    try:
        tagger = approach(info.approach).build(spec)
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
        raise RunError(
            "the weights do not match the code", where=str(folder), found=found, todo="train again"
        ) from None
    return info, tagger.eval()


def card(info: RunInfo) -> str:
    """Markdown: approach, dev scores, data, settings, and the differences from the paper."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["md"] = plain_markdown
    template = environment.from_string(CARD.read_text(encoding="utf-8"))
    identities = {}
    for name, part in sorted(info.pack.provenance.items()) if info.pack else ():
        identity = json.dumps(part.get("identity", part), sort_keys=True)
        identities[name] = safe_text(identity, None).replace("`", "'")
    build, about, *_ = approach(info.approach)
    return template.render(info=info, about=about, is_fmit=build is FMIT, identities=identities.items())

"""The models that a project's settings name: parser, grounder, region net and encoder of each dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from commands.models import known
from project import Project
from schema.config import Config

if TYPE_CHECKING:
    from model.config import TrainConfig
    from pipeline.grounding.config import GroundConfig


Kind = Literal["embedded", "file", "converted", "hub", "package", "benepar", "spacy", "server"]


@dataclass(frozen=True)
class Model:
    """A model as settings name it; `digest` and `revision` are what they pin, "" for nothing."""

    name: str
    part: str  # parser, grounder, region net, encoder
    kind: Kind
    used_by: tuple[str, ...]  # datasets
    digest: str = ""
    revision: str = ""


def datasets(project: Project) -> list[str]:
    """Datasets that are prepared or trained on; all blocks where the settings name none."""
    params = project.params
    named = dict.fromkeys((*params.datasets, *params.train_on))
    return [name for name in named if name in params.data] or list(params.data)


def named(project: Project, only: str | None = None) -> list[Model]:
    """Each model once, with the datasets that use it, in the order of the stages; raises ConfigError."""
    found: dict[Model, list[str]] = {}
    for dataset in [only] if only else datasets(project):
        for model in of_dataset(project, dataset):
            found.setdefault(model, []).append(dataset)
    return [replace(model, used_by=tuple(users)) for model, users in found.items()]


def of_dataset(project: Project, dataset: str) -> Iterator[Model]:
    """The models of one dataset's sections, without `used_by`."""
    sections, where = project.params.dataset(dataset), f"data.{dataset}"
    yield from parsers(_phrases(sections.phrases, f"{where}.phrases"))
    yield from grounders(_ground(sections.ground, f"{where}.ground"))
    yield from nets(_regions(sections.regions, f"{where}.regions"))
    if dataset in project.params.train_on:
        train = _train(sections.train, f"{where}.train")
        yield from encoders(train)
        yield from trained_nets(train)


def parsers(config: Config) -> Iterator[Model]:
    """The noun-phrase parser; the embedded one stands on MiniLM."""
    kind, name, digest = _text(config, "parser"), _text(config, "model"), _text(config, "digest")
    if kind == "embedded":
        yield Model(name, "parser", "embedded", (), digest)
        yield minilm("parser")
    elif kind == "corenlp":
        yield Model(_text(config, "url"), "parser", "server", (), digest)
    else:
        yield Model(name, "parser", "spacy" if kind == "noun-chunks" else "benepar", (), digest)


def grounders(config: GroundConfig) -> Iterator[Model]:
    """The grounder: an embedded file, weights converted from their release, a model of the hub, or none."""
    name = config.source()
    if name:
        own = name != config.grounder  # a file of one's own in the place of the embedded one
        kinds: dict[str, Kind] = {"toy-onestage": "file" if own else "embedded", "onestage": "converted"}
        yield Model(name, "grounder", kinds.get(config.grounder, "hub"), (), config.digest, config.revision)


def nets(config: Config) -> Iterator[Model]:
    """The network of the regions."""
    name = _text(config, "weights")
    if name == "embedded":
        yield Model(_text(config, "net"), "region net", "embedded", (), _text(config, "digest"))
    else:
        yield Model(name, "region net", "file", (), _text(config, "digest"))


def encoders(config: Config) -> Iterator[Model]:
    """The text encoder."""
    name = _text(config, "encoder")
    digest = _text(config, "encoder_digest") or _text(config, "digest")
    revision = _text(config, "encoder_revision") or _text(config, "revision")
    yield minilm("encoder") if name == "embedded" else Model(name, "encoder", "hub", (), digest, revision)


def trained_nets(config: TrainConfig) -> Iterator[Model]:
    """The network from which `vision.finetune` starts, where it is another than the one that makes the pack."""
    if config.reads_crops and config.vision.weights:
        yield Model(config.vision.weights, "region net", "file", ())


def minilm(part: str) -> Model:
    """The package with the embedded encoder, on which the embedded parser stands too."""
    return Model(known.MINILM, part, "package", (), known.MINILM_SHA256)


def _text(config: Config, field: str) -> str:
    """A field as text; "" where this configuration has none of that name, or nothing in it."""
    return str(getattr(config, field, "") or "")


def _phrases(section: dict, where: str) -> Config:
    from pipeline.phrases.config import PRESETS, PhrasesConfig

    return PhrasesConfig.from_section(section, where, PRESETS)


def _ground(section: dict, where: str) -> GroundConfig:
    from pipeline.grounding.config import PRESETS, GroundConfig

    return GroundConfig.from_section(section, where, PRESETS)


def _regions(section: dict, where: str) -> Config:
    from pipeline.regions.config import PRESETS, RegionsConfig

    return RegionsConfig.from_section(section, where, PRESETS)


def _train(section: dict, where: str) -> TrainConfig:
    from model.config import PRESETS, TrainConfig

    return TrainConfig.from_section(section, where, PRESETS)

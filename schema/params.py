"""params.yaml as a value: the datasets and runs, and the raw section of each stage."""

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field

from schema.config import Config
from schema.errors import ConfigError

Section = dict[str, Any]
EvaluatedSplit = Literal["train", "dev", "test"]
NAME = re.compile(r"\w[\w-]*")  # used as a folder, a DVC stage, and a key in which DVC treats dots as separators


def _checked_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a valid name: use letters, digits, _ and -")
    return value


Name = Annotated[str, AfterValidator(_checked_name)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Loader(yaml.SafeLoader):
    """Rejects duplicate keys: of two blocks with the same name, PyYAML would silently drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in lines:
                    what = f"duplicate key {key.value!r}: it is also in line {lines[key.value]}"
                    raise ConfigError(what, where=f"{self.name}:{line}", todo="keep one of the two")
                lines[key.value] = line
        return super().construct_mapping(node, deep)


class Dataset(Config):
    """The sections of one dataset, each validated by its stage."""

    source: Section
    phrases: Section
    ground: Section
    regions: Section
    train: Section = Field(default_factory=dict)
    pack: str = ""  # an imported pack, read instead of the regions stage's; relative to the project, not tracked by DVC


class Evaluate(Config):
    splits: tuple[EvaluatedSplit, ...] = ("dev",)  # to score, if the dataset has them


class Report(Config):
    redact: bool = False  # hide @names, URLs and images


class Params(Config):
    datasets: tuple[Name, ...] = ()
    train_on: tuple[Name, ...] = ()
    approaches: tuple[Name, ...] = ()
    seeds: tuple[Seed, ...] = ()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()
    draw: dict[Name, Section] = Field(default_factory=dict)  # settings of synthetic datasets
    data: dict[Name, Dataset]

    def dataset(self, name: str) -> Dataset:
        if name not in self.data:
            known, todo = ", ".join(self.data) or "none", f"add a block data.{name} to params.yaml"
            raise ConfigError(f"unknown dataset {name!r}", where="params.yaml data", found=known, todo=todo)
        return self.data[name]

    def drawing(self, name: str) -> Section:
        if name not in self.draw:
            raise ConfigError(f"{name!r} is not a synthetic dataset", where="params.yaml draw", found=str([*self.draw]))
        return self.draw[name]


def known_split(name: str) -> EvaluatedSplit:
    """The split of this name (`valid` is `dev`); raises ConfigError."""
    splits: dict[str, EvaluatedSplit] = {"train": "train", "dev": "dev", "valid": "dev", "test": "test"}
    if name not in splits:
        raise ConfigError(f"unknown split {name!r}", todo="use train, dev, test")
    return splits[name]


def read_params(path: Path) -> Params:
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        loader.name = str(path)  # for errors
        values = loader.get_single_data()
    except FileNotFoundError:
        todo = "run in the project folder, or pass --params"
        raise ConfigError("parameter file not found", where=str(path), todo=todo) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("cannot read this file", where=str(path), found=str(error)) from None
    except yaml.YAMLError as error:
        raise ConfigError("not valid YAML", where=str(path), found=" ".join(str(error).split())) from None
    if not isinstance(values, Mapping):
        raise ConfigError("not a mapping", where=str(path), todo="write top-level keys such as datasets: and data:")
    return Params.checked(values, "", file=str(path))

"""params.yaml as a value: the datasets and runs, and the raw section of each stage."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, Field

from schema.config import Config
from schema.errors import ConfigError

Section = dict[str, Any]
EvaluatedSplit = Literal["train", "dev", "test"]
NAME = re.compile(r"\w[\w-]*")  # used as a folder, a DVC stage, and a key in which DVC treats dots as separators


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a valid name: use letters, digits, _ and -")
    return value


Name = Annotated[str, AfterValidator(_name)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Loader(yaml.SafeLoader):
    """A loader that refuses duplicate keys: of two blocks with one name, PyYAML would silently drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise _DuplicateKeyError(key.value, seen[key.value], line)
                seen[key.value] = line
        return super().construct_mapping(node, deep)


class _DuplicateKeyError(Exception):
    """A key that occurs twice, with both lines."""

    def __init__(self, key: str, first: int, line: int) -> None:
        self.key, self.first, self.line = key, first, line


class Dataset(Config):
    """The sections of one dataset; each stage's own configuration class validates its section.

    `pack` is the path, relative to the project folder, of an imported pack (`fmit pack import`): training and scoring
    read it instead of the output of the regions stage. DVC does not track it; `fmit train --pack` sets it for one run.
    """

    source: Section
    phrases: Section
    ground: Section
    regions: Section
    train: Section = Field(default_factory=dict)
    pack: str = ""


class Evaluate(Config):
    """The splits to score, if the dataset has them."""

    splits: tuple[EvaluatedSplit, ...] = ("dev",)


class Report(Config):
    """`redact` hides @names, URLs and images."""

    redact: bool = False


class Params(Config):
    """The whole file. `draw` holds the settings of the synthetic datasets."""

    datasets: tuple[Name, ...] = ()
    train_on: tuple[Name, ...] = ()
    approaches: tuple[Name, ...] = ()
    seeds: tuple[Seed, ...] = ()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()
    draw: dict[Name, Section] = Field(default_factory=dict)
    data: dict[Name, Dataset]

    def dataset(self, name: str) -> Dataset:
        if name not in self.data:
            known = ", ".join(self.data) or "none"
            raise ConfigError(f"no dataset {name!r}", where="params.yaml data", found=known, todo="add its block")
        return self.data[name]

    def drawing(self, name: str) -> Section:
        if name not in self.draw:
            raise ConfigError(f"{name!r} is not a synthetic dataset", where="params.yaml draw", found=str([*self.draw]))
        return self.draw[name]


def known_split(name: str) -> EvaluatedSplit:
    """The split with this name (`valid` is `dev`); raises ConfigError for one that cannot be scored."""
    names: tuple[EvaluatedSplit, ...] = get_args(EvaluatedSplit)
    found = next((one for one in names if one == ("dev" if name == "valid" else name)), None)
    if found is None:
        raise ConfigError(f"no split {name!r}", todo=f"use {', '.join(names)}")
    return found


def read_params(path: Path) -> Params:
    """Read and validate a `params.yaml`. Raises ConfigError with the file, the key and the nearest known name."""
    return Params.checked(read_values(path), "", file=str(path)).model_copy()


def read_values(path: Path) -> Mapping[str, Any]:
    """The raw values of a parameter file. Raises ConfigError if it is missing, unreadable or not a mapping."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(
            "parameter file not found", where=str(path), todo="run in the project folder, or pass --params"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("cannot read this file", where=str(path), found=str(error)) from None
    except _DuplicateKeyError as duplicate:
        raise ConfigError(
            f"duplicate key {duplicate.key!r}: it is also in line {duplicate.first}",
            where=f"{path}:{duplicate.line}",
            todo="keep one of the two",
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError("not valid YAML", where=str(path), found=" ".join(str(error).split())) from None
    if not isinstance(values, Mapping):
        raise ConfigError("not a mapping", where=str(path), todo="write top-level keys such as datasets: and data:")
    return values

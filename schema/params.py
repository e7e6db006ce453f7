"""params.yaml as a value: which datasets and runs there are, and the raw section of each stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from schema.config import Config
from schema.errors import ConfigError

Section = dict[str, Any]
EvaluatedSplit = Literal["train", "dev", "test"]


class Dataset(Config):
    """The sections of one dataset; each stage's own configuration class checks its section.

    `pack` names features made elsewhere (`fmit pack import`), by a path from the project's folder: training and scoring
    read them instead of the regions stage's. DVC does not watch them; `fmit train --pack` says the same for one run.
    """

    source: Section
    phrases: Section
    ground: Section
    regions: Section
    train: Section = Field(default_factory=dict)
    pack: str = ""


class Evaluate(Config):
    """Which splits are scored, where the dataset has them."""

    splits: tuple[EvaluatedSplit, ...] = ("dev",)


class Report(Config):
    """`redact` hides @names, URLs and pictures."""

    redact: bool = False


class Params(Config):
    """The whole file. `draw` holds the settings of datasets that the project draws by itself."""

    datasets: tuple[str, ...] = ()
    train_on: tuple[str, ...] = ()
    approaches: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()
    draw: dict[str, Section] = Field(default_factory=dict)
    data: dict[str, Dataset]

    def dataset(self, name: str) -> Dataset:
        if name not in self.data:
            known = ", ".join(self.data) or "none"
            raise ConfigError(f"no dataset {name!r}", where="params.yaml data", found=known, todo="add its block")
        return self.data[name]

    def drawing(self, name: str) -> Section:
        if name not in self.draw:
            raise ConfigError(
                f"{name!r} is not drawn by the project", where="params.yaml draw", found=str([*self.draw])
            )
        return self.draw[name]


def read_params(path: Path) -> Params:
    """Read and check `params.yaml`; raises ConfigError with the key and the nearest known name."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            "no params file", where=str(path), todo="run in the project's folder, or give --params"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError("not valid YAML", where=str(path), found=" ".join(str(error).split())) from None
    if not isinstance(values, Mapping):
        raise ConfigError("not a mapping", where=str(path), todo="it starts with keys such as datasets: and data:")
    return Params.checked(values, "").model_copy()

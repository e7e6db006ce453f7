"""`dvc exp run -S`: every parameter of every section can be overridden, also those that params.yaml does not name."""

import json
import re
import shutil
import typing
from collections.abc import Iterator

import pytest
from dvc.utils.hydra import apply_overrides

from model.config import PRESETS as TRAIN
from model.config import TrainConfig
from pipeline.corpus.config import SourceConfig
from pipeline.grounding.config import GroundConfig
from pipeline.phrases.config import PARSERS, PhrasesConfig
from pipeline.regions.config import RegionsConfig
from schema.config import Config
from schema.errors import ConfigError
from schema.params import read_params
from tests import own
from tests.imports import ROOT

SECTIONS: dict[str, type[Config]] = {
    "source": SourceConfig,
    "phrases": PhrasesConfig,
    "ground": GroundConfig,
    "regions": RegionsConfig,
    "train": TrainConfig,
}


def fields(config: type[Config], path: str = "") -> Iterator[tuple[str, type[Config], str]]:
    """(dotted path, class, field) of all parameters, those of sections within a section too."""
    for name, field in config.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Config):
            yield from fields(inner, f"{path}{name}.")
        else:
            yield f"{path}{name}", config, name


FIELDS = [(section, *one) for section, config in SECTIONS.items() for one in fields(config)]


def setting(name: str, value: typing.Any) -> dict[str, typing.Any]:
    """A section with this value, and what it requires: a dev split is cut from train if there is no file for it."""
    return {name: value, **({"files": {"train": "train.txt"}} if name == "split" else {})}


def another(config: type[Config], name: str) -> typing.Any:
    """A value of a field that its class takes and that is not the default."""
    default = config().model_dump(mode="json")[name]
    spread = config.model_fields[name].annotation
    choices = [one for part in (spread, *typing.get_args(spread)) for one in typing.get_args(part)]
    choices = [one for one in choices if isinstance(one, str)]
    tried = [
        *choices,
        *PARSERS,
        True,
        False,
        8,
        2,
        0.5,
        0.25,
        "dev",
        ["NP", "QP"],
        {"train": "a.txt"},
        {"PER": "person"},
        {},
    ]
    tried += [{"dev": 0.25, "seed": 0}, {"word": 1, "label": 0}, {"text": "sentence"}]
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        tried = [default * 2, default + 1, default / 2]
    for value in tried:
        try:
            if config.checked(setting(name, value), "x").model_dump(mode="json")[name] == value != default:
                return value
        except ConfigError:
            continue
    raise AssertionError(f"no other value for {name}")


def hydra(value: typing.Any) -> str:
    """A value as Hydra's grammar writes it: no quotes in mappings."""
    return json.dumps(value).replace(": ", ":").replace('"', "") if isinstance(value, dict) else json.dumps(value)


@pytest.mark.parametrize(("section", "path", "config", "name"), FIELDS, ids=[".".join(one[:2]) for one in FIELDS])
def test_every_parameter_can_be_set_on_the_command_line(section, path, config, name, tmp_path):
    params = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", params)
    value = another(config, name)
    apply_overrides(params, [f"++data.smoke.{section}.{path}={hydra(value)}"])
    found = getattr(read_params(params).dataset("smoke"), section)
    for step in path.split("."):
        found = found[step]
    assert config.checked(setting(name, found), section) == config.checked(setting(name, value), section)


def test_small_rates_stay_numbers(tmp_path):
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    apply_overrides(path, ["++data.smoke.train.lr_encoder=3e-5"])
    section = read_params(path).dataset("smoke").train
    assert TrainConfig.from_section(section, "train", TRAIN).lr_encoder == 3e-5


def test_the_documented_sweep_sets_four_parameters_that_there_are(tmp_path):
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    command = next(line for line in text.splitlines() if line.startswith("for l in"))
    values = dict(re.findall(r"for (\w+) in ([^;]+);", command))
    overrides = re.findall(r'-S "(\S+)=\$(\w+)"', command)
    assert [name for _, name in overrides] == list(values)
    params = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", params)
    apply_overrides(params, [f"{key}={values[name].split()[0]}" for key, name in overrides])
    config = TrainConfig.from_section(read_params(params).dataset("smoke").train, "train", TRAIN)
    assert (config.layers, config.lr_encoder, config.lr_head, config.ebd_weight) == (1, 3e-5, 5e-4, 0.1)
    assert command.count("done") == command.count("; do ") == int(command.split("break ")[1][0])


@pytest.mark.long
def test_an_experiment_and_a_sweep_run(tmp_path):
    made = own.make(tmp_path)
    made.patience_s = 1500
    shutil.copy(ROOT / ".dvcignore", tmp_path / ".dvcignore")
    for name, value in (("user.name", "a"), ("user.email", "a@b")):
        made.call("git", "config", name, value)
    made.call("git", "add", "-A")
    made.call("git", "commit", "-q", "-m", "start")
    made.dvc("exp", "run", "-S", "++data.own.train.layers=2", "-S", "seeds=[1]")
    config = json.loads((tmp_path / "runs" / "own-fmit-1" / "model" / "config.json").read_text())
    assert (config["seed"], config["config"]["layers"]) == (1, 2)
    for layers in ("1", "3"):
        made.dvc("exp", "run", "-S", f"++data.own.train.layers={layers}", "-S", "seeds=[2]")
    config = json.loads((tmp_path / "runs" / "own-fmit-2" / "model" / "config.json").read_text())
    assert config["config"]["layers"] == 3
    assert len(made.dvc("exp", "list", "--name-only").split()) == 3

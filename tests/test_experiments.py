"""`dvc exp run -S`: every parameter of every section can be overridden, also those that params.yaml does not name."""

import json
import shutil
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from model.config import PRESETS as TRAIN
from model.config import TrainConfig
from pipeline.corpus.config import SourceConfig
from pipeline.grounding.config import GroundConfig
from pipeline.phrases.config import PhrasesConfig
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


def another(config: type[Config], name: str) -> typing.Any:
    """A value of a field that its class takes and that is not the default."""
    default = config().model_dump(mode="json")[name]
    spread = config.model_fields[name].annotation
    choices = [one for one in typing.get_args(spread) if isinstance(one, str)]
    tried = [*choices, True, False, 8, 2, 0.5, 0.25, "dev", ["NP", "QP"], {"train": "a.txt"}, {"PER": "person"}, {}]
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        tried = [default * 2, default + 1, default / 2]
    for value in tried:
        try:
            if config.checked({name: value}, "x").model_dump(mode="json")[name] == value != default:
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
    assert config.checked({name: found}, section) == config.checked({name: value}, section)


def test_small_rates_stay_numbers(tmp_path):
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    apply_overrides(path, ["++data.smoke.train.lr_encoder=3e-5"])
    section = read_params(path).dataset("smoke").train
    assert TrainConfig.from_section(section, "train", TRAIN).lr_encoder == 3e-5


def test_the_documented_sweep_is_every_combination():
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    command = next(line for line in text.splitlines() if "exp run --queue" in line and "layers" in line)
    overrides = [one.strip("'") for one in command.split(" -S ")[1:]]
    overrides = [one.split("'")[0] for one in overrides]
    names = {one.split("=")[0].rsplit(".", 1)[-1] for one in overrides}
    assert names == {"layers", "lr_encoder", "lr_head", "ebd_weight"}
    sweeps = get_hydra_sweeps({"params.yaml": overrides})
    wanted = 1
    for one in overrides:
        wanted *= len(one.split(","))
    assert len(sweeps) == wanted


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
    made.dvc("exp", "run", "--queue", "-S", "++data.own.train.layers=1,2", "-S", "seeds=[2]")
    made.dvc("exp", "run", "--run-all")
    shown = json.loads(made.dvc("exp", "show", "--json"))
    assert Path(tmp_path / "params.yaml").is_file()
    text = json.dumps(shown)
    assert text.count("own-fmit-2/metrics.json") >= 2
    assert yaml.safe_load((tmp_path / "params.yaml").read_text())["seeds"] == [1]  # a queue leaves the workspace alone

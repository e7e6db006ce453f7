import json

import PIL.Image
import pytest

from pipeline.engine import silent
from pipeline.grounding.grounder import LazyGrounder
from pipeline.phrases.parser import LazyParser
from project import Project
from tests import own
from vision.backbones import FeatureNet


def test_each_stage_ends_with_a_line_that_counts(fmit):
    assert fmit("phrases", "own").stdout == "phrases own: 16 rows, 0 computed, 16 from store\n"
    assert ", 0 computed, " in fmit("ground", "own").stdout
    assert ", 0 computed, " in fmit("regions", "own").stdout


def test_a_stage_with_nothing_to_compute_loads_no_model(fmit, monkeypatch):
    def fail(*arguments):
        pytest.fail("a model was loaded")

    monkeypatch.setattr(LazyParser, "parse", fail)
    monkeypatch.setattr(LazyGrounder, "load", fail)
    monkeypatch.setattr(FeatureNet, "maps", property(fail))
    for stage in ("phrases", "ground", "regions"):
        assert ", 0 computed, " in fmit(stage, "own").stdout


def test_ingest_prints_the_table_of_figures(fmit):
    printed = fmit("ingest", "own").stdout
    assert "PER person" in printed
    assert "orphan I- tags" in printed
    assert printed.splitlines()[-1] == "ingest own: 16 rows; images: 16 ok, 0 missing, 0 broken, 0 refused"


def test_stages_print_json(fmit):
    found = json.loads(fmit("phrases", "own", "--json").stdout)
    assert found == {"stage": "phrases", "dataset": "own", "n_rows": 16, "n_computed": 0, "n_cut": 0, "n_too_long": 0}
    ingested = fmit("ingest", "own", "--json")
    found = json.loads(ingested.stdout)
    assert (found["stage"], found["splits"]["train"]["n_posts"], found["variant"]) == ("ingest", 8, "")
    assert ingested.stderr == ""


def test_remarks_are_on_stderr_and_quiet_hides_them(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(own.PARAMS.replace("preset: tiny,", "preset: tiny, max_objects: 1,"))
    own.write_posts(tmp_path / "data/own", {"train": 1, "dev": 1, "test": 1})
    (tmp_path / "data/own/images/train-00000.png").unlink()
    monkeypatch.chdir(tmp_path)
    from click.testing import CliRunner

    import cli

    loud, quiet = (CliRunner().invoke(cli.main, ["ingest", "own", *more]) for more in ([], ["--quiet"]))
    assert "1 image(s) missing: train-00000.png: no such file" in loud.stderr
    assert "warning: train.max_objects 1 cuts 8 object(s) of 2 post(s), 0 of them phrases (phrases are" in loud.stderr
    assert quiet.stderr == ""
    assert loud.stdout == quiet.stdout


def test_the_synthetic_grounder_refuses_photographs_unless_allowed(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(own.PARAMS)
    own.write_posts(tmp_path / "data/own", {"train": 1, "dev": 1, "test": 1})
    PIL.Image.new("RGB", (40, 30), "red").save(tmp_path / "data/own/images/train-00000.png")
    project = Project.open(tmp_path / "params.yaml")
    project.ingest("own", silent)
    project.phrases("own", silent)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMIT_STORE", raising=False)
    from click.testing import CliRunner

    import cli

    refused = CliRunner().invoke(cli.main, ["ground", "own"])
    assert refused.exit_code == 1
    assert "synthetic-grounder was trained on drawings, and the project did not draw train-00000.png" in refused.stderr
    assert "--allow-synthetic" in refused.stderr
    assert not project.out("own", "boxes.parquet").exists()
    assert CliRunner().invoke(cli.main, ["ground", "own", "--allow-synthetic"]).exit_code == 0


def test_an_unknown_dataset_names_those_there_are(fmit):
    result = fmit("ingest", "other")
    assert result.exit_code == 1
    assert "unknown dataset 'other' (found own)" in result.stderr

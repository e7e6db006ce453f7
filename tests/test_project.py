"""Where a project's things lie, and what its calls say when something is not there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import pages
from cache import tables
from cache.packs import Objects, Pack, PackMeta, write_pack
from project import Project, run_config
from schema.errors import ConfigError, DataError, RunError
from schema.records import Box, Region
from tests import own


def test_the_store_is_where_the_environment_says(trained, monkeypatch, tmp_path):
    monkeypatch.delenv("FMIT_STORE", raising=False)
    assert trained.store == trained.root / ".fmit" / "store"
    monkeypatch.setenv("FMIT_STORE", str(tmp_path))
    assert trained.store == tmp_path


def test_a_dataset_may_name_a_pack_of_its_own(tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text(own.PARAMS)
    assert Project.open(params).pack("own") == tmp_path / "out/own/pack"
    for named, path in (("packs/mine", tmp_path / "packs/mine"), ("/shared/pack", Path("/shared/pack"))):
        params.write_text(own.PARAMS.rstrip() + f"\n    pack: {named}\n")
        assert Project.open(params).pack("own") == path


def test_a_run_knows_its_dataset_by_the_digest_of_its_posts(trained, tmp_path):
    assert trained.dataset_of(trained.run("own", "fmit", 0)) == "own"
    other = tmp_path / "run"
    (other / "model").mkdir(parents=True)
    (other / "model" / "config.json").write_text(json.dumps({"inputs": {"posts": "0" * 64}, "config": {}, "seed": 0}))
    with pytest.raises(RunError, match="no dataset here has the posts that this run was trained on"):
        trained.dataset_of(other)
    with pytest.raises(RunError, match="no trained run"):
        run_config(tmp_path)


def test_a_run_is_up_to_date_until_settings_change(trained):
    run = trained.run("own", "fmit", 0)
    assert trained.is_up_to_date(run, "own", "fmit", 0)
    assert not trained.is_up_to_date(run, "own", "fmit", 1)
    assert not trained.is_up_to_date(run, "own", "fmit-no-rel", 0)
    assert not trained.is_up_to_date(trained.run("own", "bert-crf", 0), "own", "bert-crf", 0)


def test_a_run_is_not_up_to_date_with_other_features(trained, tmp_path):
    run = trained.run("own", "fmit", 0)
    assert trained.is_up_to_date(run, "own", "fmit", 0, pack=tmp_path / "none")  # not here, so not compared
    shutil.copytree(trained.pack("own"), tmp_path / "pack")
    assert trained.is_up_to_date(run, "own", "fmit", 0, pack=tmp_path / "pack")
    meta = json.loads((tmp_path / "pack" / "meta.json").read_text())
    (tmp_path / "pack" / "meta.json").write_text(json.dumps({**meta, "synthetic": not meta["synthetic"]}))
    assert not trained.is_up_to_date(run, "own", "fmit", 0, pack=tmp_path / "pack")


def test_the_summary_has_a_row_a_scored_split(trained):
    (row,) = pages.summary(trained)
    assert (row["run"], row["split"], row["ceiling"]) == ("own-fmit-0", "dev", None)
    metrics = json.loads((trained.run("own", "fmit", 0) / "metrics.json").read_text())
    assert row["f1"] == metrics["dev"]["f1"]
    assert row["report"] == trained.run("own", "fmit", 0) / "report.html"


def test_what_is_shown_of_a_post_is_what_the_stages_made(trained):
    shown = pages.post_details(trained, "own", "dev-00000")
    assert shown.post.id == shown.phrases.post_id == "dev-00000"
    assert shown.boxes == tuple(tables.read_boxes(trained.out("own", "boxes.parquet"))[0]["dev-00000"])
    assert [region.source for region in shown.regions][:5] == ["image", *["general"] * 4]
    assert shown.synthetic
    with pytest.raises(
        DataError, match="dataset own: no post 'x'; use an id such as train-00000, train-00001, train-00002"
    ):
        pages.post_details(trained, "own", "x")
    with pytest.raises(DataError, match="no post 'dev-0000'; use an id such as dev-0000"):
        pages.post_details(trained, "own", "dev-0000")


def test_the_epochs_are_those_of_the_section(trained):
    curves = json.loads((trained.run("own", "fmit", 0) / "curves.json").read_text())
    assert len(curves) == 1


def test_unknown_datasets_and_approaches(trained):
    with pytest.raises(ConfigError, match=r"unknown dataset 'x' \(found own\)"):
        trained.source("x")
    with pytest.raises(ConfigError, match="unknown approach 'x'"):
        list(trained.train("own", "x", 0))


def test_a_project_needs_its_params(tmp_path):
    with pytest.raises(ConfigError, match="parameter file not found"):
        Project.open(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "{}", '{"inputs": 1, "config": {}, "seed": 0}', "\udcff"])
def test_a_configuration_that_is_no_runs_is_said(trained, tmp_path, text):
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "model" / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=r"config\.json: (not readable as JSON|not a JSON object|not a run's config)"):
        trained.dataset_of(run)
    with pytest.raises(RunError, match=r"config\.json"):
        pages.report(trained, run, dataset="own")


@pytest.mark.parametrize("text", ["", '{"dev": {"str', "[]", '{"dev": 3}', '{"dev": {"f1": null}}'])
def test_scores_cut_short_are_said(trained, tmp_path, text):
    shutil.copy(trained.root / "params.yaml", tmp_path)
    project = Project.open(tmp_path / "params.yaml")
    assert pages.summary(project) == []
    run = project.run("own", "fmit", 0)
    shutil.copytree(trained.run("own", "fmit", 0), run)
    assert len(pages.summary(project)) == 1
    (run / "metrics.json").write_text(text)
    with pytest.raises(RunError, match=r"metrics\.json: .*; score the run again \(fmit evaluate\)"):
        pages.summary(project)


def test_a_summary_ends_with_the_means_over_seeds(trained, tmp_path):
    text = (trained.root / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("seeds: [0]", "seeds: [0, 1]"))
    project = Project.open(tmp_path / "params.yaml")
    for seed, f1 in ((0, 0.5), (1, 0.75)):
        run = project.run("own", "fmit", seed)
        shutil.copytree(trained.run("own", "fmit", 0), run)
        (run / "metrics.json").write_text(json.dumps({"dev": {"precision": 1, "recall": 0, "f1": f1}}))
    first, second, mean = pages.summary(project)
    assert (first["run"], second["run"], mean["run"]) == ("own-fmit-0", "own-fmit-1", "own-fmit: mean of 2 seeds")
    assert (mean["split"], mean["precision"], mean["f1"]) == ("dev", 1, 0.625)


def test_a_file_where_the_model_will_lie_is_told_before_training(trained, tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(
        RunError, match=r"model: cannot be written \(found .*model is not a folder\); choose another folder"
    ):
        trained.train("own", "fmit", 0, out=tmp_path, device="cpu")


def test_no_folder_is_made_before_it_is_needed(trained, tmp_path):
    epochs = trained.train("own", "fmit", 0, out=tmp_path / "a" / "run")
    assert list(tmp_path.iterdir()) == []
    epochs.close()


def test_of_datasets_with_the_same_posts_the_pack_tells(trained, tmp_path):
    text = (trained.root / "params.yaml").read_text()
    block = text[text.index("  own:") :].replace("  own:", "  twin:")
    (tmp_path / "params.yaml").write_text(text[: text.index("  own:")] + block + text[text.index("  own:") :])
    for name in ("own", "twin"):
        shutil.copytree(trained.root / "out/own", tmp_path / "out" / name)
    project, run = Project.open(tmp_path / "params.yaml"), trained.run("own", "fmit", 0)
    assert project.dataset_of(run) == "twin"  # they are one and the same: the first
    (tmp_path / "params.yaml").write_text(
        (tmp_path / "params.yaml").read_text().replace("n_buckets: 8", "n_buckets: 4", 1)
    )
    shutil.rmtree(project.pack("twin"))
    assert project.dataset_of(run) == "own"


def test_of_datasets_with_the_same_posts_the_grid_tells_too(trained, tmp_path):
    text = (trained.root / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text + text[text.index("  own:") :].replace("  own:", "  twin:"))
    for name in ("own", "twin"):
        shutil.copytree(trained.root / "out/own", tmp_path / "out" / name)
    project, run = Project.open(tmp_path / "params.yaml"), tmp_path / "run"
    cells = Objects(np.ones((1, 3), "float16"), (Region("image", "", None, Box(0, 0, 9, 9), 1.0),))
    write_pack(project.pack("twin") / "grid", PackMeta(3, "float16", 1, ()), [("an image", cells)])
    shutil.copytree(trained.run("own", "fmit", 0), run)
    config = json.loads((run / "model/config.json").read_text())
    config["inputs"]["pack"] = Pack(project.pack("twin")).grid.digest()
    (run / "model/config.json").write_text(json.dumps(config))
    assert project.dataset_of(run) == "twin"

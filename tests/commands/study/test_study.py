import re
from pathlib import Path

import pytest
import yaml

from commands.study.study import Study, StudyParams, Unit, pick
from schema.errors import ConfigError
from tests.commands.study.made_study import make_study
from tests.imports import ROOT


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path)


def test_data_and_store_are_the_projects_outs_and_runs_its_own(study, tmp_path, monkeypatch):
    monkeypatch.delenv("FMIT_STORE", raising=False)
    assert study.data("tiny") == tmp_path / "project" / "data" / "tiny"
    assert study.store == study.home.store == tmp_path / "project" / ".fmit" / "store"
    assert study.out("tiny", "posts.parquet") == tmp_path / "out" / "tiny" / "posts.parquet"
    assert study.run("tiny", "fmit", 0) == tmp_path / "runs" / "tiny-fmit-0"


def test_the_grid_is_prepared_whatever_the_project_says(study):
    assert study.params.dataset("tiny").regions["grid"]
    assert "grid" not in study.home.params.dataset("tiny").regions


def test_keys_beside_the_projects_train_section(study, tmp_path):
    asked = study.asked.model_copy(update={"train": {"tiny": {"epochs": 7}}})
    changed = Study.over(study.home, tmp_path, asked)
    assert changed.config("tiny", "fmit").epochs == 7
    assert changed.config("tiny-other", "fmit").epochs == 1
    assert changed.config("tiny", "fmit").width == 16


def test_random_boxes_have_a_pack_of_their_own(study):
    assert study.pack_for("tiny", "fmit") == study.out("tiny", "pack")
    assert study.pack_for("tiny", "bert-crf") == study.out("tiny", "pack")
    assert study.pack_for("tiny", "fmit-random-boxes") == study.out("tiny", "random-boxes") / "pack"


def test_imported_features_are_found_from_the_projects_folder(study, tmp_path):
    block = study.home.params.data["tiny"].model_copy(update={"pack": "mine/pack"})
    home = type(study.home)(
        study.home.root, study.home.params.model_copy(update={"data": {"tiny": block, "tiny-other": block}})
    )
    assert Study.over(home, tmp_path, study.asked).pack("tiny") == tmp_path / "project" / "mine" / "pack"


def test_twins_are_approaches_that_are_trained_alike(study):
    unit = Unit("tiny", "fmit-l1", 0)
    assert study.twin(unit, ("fmit", "fmit-l1")) == Unit("tiny", "fmit", 0)  # the preset has one layer
    assert study.twin(unit, ("fmit-l3", "fmit-l1")) == unit
    assert study.twin(Unit("tiny", "fmit-text", 0), ("bert-crf", "fmit-text")).approach == "fmit-text"
    with pytest.raises(ConfigError, match="no approach 'fmitt'"):
        study.twin(Unit("tiny", "fmitt", 0), ("fmit",))


def test_units_are_the_whole_matrix(study):
    assert len(study.units()) == 2 * len(study.asked.approaches)


def test_names_that_the_params_lack_are_refused():
    assert pick("seeds", (1,), (0, 1)) == [1]
    wanted = (
        "fmitt is not among the tables' approaches (found fmit, umt); add fmitt to approaches of the tables' params"
    )
    with pytest.raises(ConfigError, match=re.escape(wanted)):
        pick("approaches", ("fmitt",), ("fmit", "umt"))


def test_unknown_keys_and_datasets_of_the_params_file(tmp_path, study):
    path = tmp_path / "params.yaml"
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**values, "seedz": [0]}))
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))} seedz: unknown key, did you mean seeds"):
        Study.read(path)
    path.write_text(yaml.safe_dump({**values, "datasets": ["none"], "crossings": []}))
    with pytest.raises(ConfigError, match="no dataset 'none'"):
        Study.read(path)


def test_nothing_prepared_is_an_empty_field(study):
    field = study.field()
    assert (field.datasets, dict(field.runs)) == ((), {})


def test_the_committed_params_hold_every_row_of_the_tables():
    from model.approaches import APPROACHES
    from report.results import published

    study = Study.read(ROOT / "tables" / "params.yaml")
    assert set(published().approaches("table2", "table4", "table5")) == set(study.asked.approaches)
    assert set(study.asked.approaches) <= set(APPROACHES)
    assert study.home.root == ROOT
    assert Path(study.asked.project) == Path("../params.yaml")
    assert StudyParams.model_fields.keys() >= yaml.safe_load((ROOT / "tables" / "params.yaml").read_text()).keys()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"seeds": [0, 0]}, "seeds: 0 stands there twice"),
        ({"seeds": []}, "seeds: Tuple should have at least 1 item"),
        ({"approaches": ["fmit", "bert", "fmit"]}, "approaches: 'fmit' stands there twice"),
        ({"datasets": []}, "datasets: Tuple should have at least 1 item"),
        ({"datasets": ["tiny", "tiny", "tiny-other"]}, "datasets: 'tiny' stands there twice"),
        ({"splits": ["train"]}, "splits: tables show test or dev, not train"),
        ({"crossings": [{"train": "tiny", "score": "nope"}]}, r"crossings: two of datasets .* not tiny and nope"),
        ({"crossings": [{"train": "tiny", "score": "tiny"}]}, r"crossings: two of datasets .* not tiny and tiny"),
        ({"train": {"nope": {}}}, "train: 'nope' is not among datasets"),
        ({"train": {"tiny": {"epochz": 1}}}, r"train.tiny.epochz: unknown key, did you mean epochs\?"),
        ({"train": {"tiny": {"epochs": -1}}}, r"train.tiny.epochs: .*greater than or equal to 1 \(found -1\)"),
        ({"train": {"tiny": {"preset": "huge"}}}, r"train.tiny: unknown preset 'huge'; use one of minilm, paper"),
    ],
)
def test_what_the_tables_file_may_not_say_is_told_with_that_file(study, tmp_path, values, told):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))
    with pytest.raises(ConfigError, match=told) as caught:
        Study.read(path)
    assert str(caught.value).startswith(str(path))


def test_keys_of_the_tables_file_may_name_another_preset(study, tmp_path):
    path = tmp_path / "params.yaml"
    train = {"tiny": {"preset": "smoke", "layers": 2}}
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "train": train}))
    config = Study.read(path).config("tiny", "fmit")
    assert (config.layers, config.width, config.patience) == (2, 16, 4)  # ours, the project's, the preset's


def test_a_name_given_twice_is_one():
    assert pick("seeds", [1, 0, 1], [0, 1]) == [1, 0]

"""The tiny project is a whole one: its settings and stages are those of the repository."""

import resource

import pytest
import yaml
from click.testing import CliRunner

from bench.tables_tiny import ROOT, main, params, runs, stages
from model.approaches import APPROACHES
from report.results import published
from report.runs import RANDOM_BOXES
from schema.params import Params


def test_the_settings_train_every_row_of_tables_2_and_5():
    values = Params.checked(params(), "")
    rows = {*values.approaches, "fmit-l1", RANDOM_BOXES}  # the preset tiny has one layer
    assert rows == set(published().approaches("table2", "table5"))
    assert set(values.approaches) <= set(APPROACHES)
    matrix = {f"{dataset}-{approach}-0" for dataset in values.train_on for approach in values.approaches}
    assert set(runs()) <= matrix


def test_the_stages_are_those_of_the_repository_with_paths_to_its_code():
    ours = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    tiny = stages("..")["stages"]
    assert list(tiny) == list(ours)
    for stage in tiny.values():
        block = stage.get("do", stage)
        assert block["cmd"].startswith("sh ../bin/fmit ")
        code = [dep for dep in block["deps"] if not dep.startswith(("data/", "out/", "runs/"))]
        assert all((ROOT / "bin" / dep).exists() for dep in code)
        assert all(dep.startswith("../") for dep in code)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_all_of_it_within_ten_minutes_and_a_second_call_trains_nothing(tmp_path):
    folder = tmp_path / "tiny"

    def make() -> float:
        """Processor seconds of a call."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert CliRunner().invoke(main, [str(folder)], catch_exceptions=False).exit_code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert make() < 2 * 10 * 60  # two cores
    weights = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/model/weights.safetensors")}
    assert len(weights) == len(runs())
    make()
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/model/weights.safetensors")} == weights
    text = (folder / "tables" / "tables.md").read_text(encoding="utf-8")
    for title in ("Table 2: approaches, tiny,", "Table 5: ablations, tiny,"):
        part = next(part for part in text.split("### ") if part.startswith(title))
        assert "not run" not in part
    assert "Table 4: cross-domain, tiny to other, test split" in text
    for name in ("figure3-tiny-1", "figure4-tiny", "calibration-tiny", "breakdown-tiny", "grounding-tiny", "table3"):
        assert (folder / "tables" / f"{name}.csv").is_file()

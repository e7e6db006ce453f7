"""Only what is stale runs, and only rows that are new are computed: counted, through DVC, without an environment."""

import re
import shutil
from pathlib import Path

import pytest

from cache.keys import digest_file
from tests import own

STAGES = ["ingest", "phrases", "ground", "regions"]
RUN = ["train@own-fmit-0", "evaluate@own-fmit-0", "report@own-fmit-0"]
ALL = [f"{stage}@own" for stage in STAGES] + RUN


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = own.make(tmp_path_factory.mktemp("project"))
    ran, _ = made.repro()
    assert sorted(ran) == sorted(ALL)
    return made


def computed(printed: str) -> dict[str, int]:
    """Rows computed by stage, as the stages' lines say."""
    return {stage: int(n) for stage, n in re.findall(r"^(\w+) own: \d+ rows, (\d+) computed", printed, re.M)}


def files(folder: Path) -> dict[str, str]:
    return {path.name: digest_file(path) for path in folder.iterdir()}


def test_nothing_changed_nothing_runs(project):
    ran, printed = project.repro()
    assert ran == []
    assert "Data and pipelines are up to date" in printed


def test_a_comment_in_region_code_reruns_that_stage_alone_and_computes_nothing(project):
    with (project.root / "pipeline/regions/stage.py").open("a") as file:
        file.write("# a remark\n")
    ran, printed = project.repro()
    assert ran == ["regions@own"]
    assert computed(printed) == {"regions": 0}


def test_a_training_parameter_reruns_training_and_after(project):
    params = project.root / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 1", "epochs: 1, lr_head: 0.002"))
    ran, _ = project.repro()
    assert sorted(ran) == sorted(RUN)


def test_one_post_more_computes_its_rows_and_changes_one_file(project):
    before = files(project.root / "out/own/pack")
    own.write_posts(project.root / "data/own", {**own.SIZES, "test": own.SIZES["test"] + 1})
    ran, printed = project.repro()
    after = files(project.root / "out/own/pack")
    assert set(ran) == set(ALL)
    assert before.keys() == after.keys()
    assert sum(before[name] != after[name] for name in before) == 1
    rows = computed(printed)
    assert rows["phrases"] == 1
    assert 4 <= rows["ground"] <= 4 + 16  # four general words, and the post's noun phrases
    assert 1 <= rows["regions"] <= 1 + rows["ground"]


def test_outs_and_cache_lost_but_the_store_kept_computes_nothing(project):
    before = files(project.root / "out/own/pack")
    for name in ("out", ".dvc/cache"):
        shutil.rmtree(project.root / name)
    ran, printed = project.repro()
    assert {f"{stage}@own" for stage in STAGES} <= set(ran)
    assert computed(printed) == {"phrases": 0, "ground": 0, "regions": 0}
    assert files(project.root / "out/own/pack") == before

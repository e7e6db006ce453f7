"""The settings of docs/reproduce.md are settings: they lead to the paper's models and runs."""

import re

from project import Project
from tests.imports import ROOT


def test_the_page_names_the_papers_models(tmp_path):
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    (settings,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    (tmp_path / "params.yaml").write_text(settings)
    project = Project.open(tmp_path / "params.yaml")
    assert {(one.part, one.name) for one in project.models()} == {
        ("parser", "http://localhost:9000"),
        ("grounder", "onestage"),
        ("region net", "resnet152-394f9c45.pth"),
        ("encoder", "bert-base-cased"),
    }
    assert all(one.used_by == ("twitter2015", "twitter2017") for one in project.models())
    assert len(project.runs()) == 2 * 5 * 3

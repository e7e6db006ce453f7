"""A small project that has gone the whole way once, for everything that looks at its results."""

from __future__ import annotations

import pytest

import pages
from pipeline.engine import silent
from project import Project
from tests import own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of whole projects come first: they take longest, and the last worker should not be left with them."""
    items.sort(key=lambda item: item.nodeid.split("::")[0].count("/"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Drawn posts as somebody's JSONL, all stages, and `runs/own-fmit-0`, trained, scored and reported."""
    root = tmp_path_factory.mktemp("trained")
    (root / "params.yaml").write_text(own.PARAMS, encoding="utf-8")
    own.write_posts(root / "data" / "own", own.SIZES)
    project = Project.open(root / "params.yaml")
    for stage in (project.ingest, project.phrases, project.ground, project.regions):
        stage("own", silent)
    list(project.train("own", "fmit", 0, device="cpu"))
    project.evaluate(project.run("own", "fmit", 0), device="cpu")
    pages.report(project, project.run("own", "fmit", 0))
    return project

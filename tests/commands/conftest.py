"""A command in a project's folder."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

import cli
from project import Project


@pytest.fixture
def fmit(trained: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(trained.root)
    monkeypatch.delenv("FMIT_STORE", raising=False)
    return lambda *arguments: CliRunner().invoke(cli.main, [str(one) for one in arguments])

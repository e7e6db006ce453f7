"""Checks of the settings: params.yaml and its sections, and the models that they name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from commands.doctor.findings import Finding, note, ok, problem
from commands.doctor.machine import loads
from project import Project
from schema.errors import ConfigError


def opened(params_path: Path) -> tuple[Project | None, Finding]:
    """The project, or None, and what is to be said about params.yaml."""
    try:
        project = Project.open(params_path)
    except ConfigError as error:
        return None, problem("settings", error.fact, error.todo or "mend this key")
    params = project.params
    prepared, trained = ", ".join(params.datasets) or "none", ", ".join(params.train_on) or "none"
    return project, ok("settings", f"datasets {prepared}; trained on {trained}: {', '.join(params.approaches) or '-'}")


def names(project: Project) -> Iterator[Finding]:
    """Names that lead nowhere."""
    params = project.params
    for name in dict.fromkeys((*params.datasets, *params.train_on)):
        if name not in params.data:
            yield problem("settings", f"dataset {name} has no block in data", f"add data.{name} to params.yaml")
    for name in params.train_on:
        if name not in params.datasets:
            yield problem("settings", f"{name} is in train_on, but not prepared", f"add {name} to datasets")
    yield from _engines(project)
    if params.train_on and loads("model.approaches") == "":
        from model.approaches import approach

        for name in params.approaches:
            try:
                approach(name)
            except ConfigError as error:
                yield problem("settings", error.fact, error.todo)


def _engines(project: Project) -> Iterator[Finding]:
    """Stages that ask for a cluster where what makes one is not installed."""
    sections = [
        f"data.{name}.{stage}"
        for name, one in project.params.data.items()
        for stage in ("phrases", "ground", "regions")
        if getattr(one, stage).get("engine") == "ray"
    ]
    if sections and (why := loads("ray.data")):
        yield problem("settings", f"{', '.join(sections)}: engine: ray, but {why}", "pip install 'fmit[ray]'")


def models(project: Project) -> Iterator[Finding]:
    """State of every model that the settings name; sections that cannot be read."""
    from commands.models.named import Model, datasets, of_dataset
    from commands.models.state import look

    named: dict[Model, None] = {}
    for dataset in datasets(project):
        try:
            named |= dict.fromkeys(of_dataset(project, dataset))
        except ConfigError as error:
            yield problem("settings", error.fact, error.todo or "mend this key")
        except (ImportError, RuntimeError) as error:  # torch and torchvision do not fit: said above
            yield note("models", f"not looked at for {dataset}: {' '.join(str(error).split())[:120]}")
    for model in named:
        found = look(model)
        what = f"{model.part} {model.name}: {found.state}"
        if found.state != "present":
            yield problem("models", f"{what}: {found.why}", found.fetched_by)
        elif found.digest and not found.pinned:
            yield note("models", f"{what}, not pinned", f"put its digest into params.yaml: {found.digest}")
        else:
            yield ok("models", f"{what}{f', sha256 {found.digest}' if found.digest else ''}")


def store_without_project(root: Path) -> Path:
    """Where the store would be, were there a project."""
    return Path(os.environ.get("FMIT_STORE") or root / ".fmit" / "store")

"""Checks of params.yaml: its sections, the names in it, and the models that it names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from checks.findings import Finding, note, ok, problem
from checks.machine import import_error
from project import Project
from schema.errors import ConfigError

if TYPE_CHECKING:
    from cache.models import ModelRef

CORRECT_KEY = "correct this key in params.yaml"


def open_project(params_path: Path) -> tuple[Project | None, Finding]:
    """The project, None where params.yaml cannot be read, and the finding about it."""
    try:
        project = Project.open(params_path)
    except ConfigError as error:
        return None, problem("settings", error.fact, error.todo or CORRECT_KEY)
    params = project.params
    prepared, trained = ", ".join(params.datasets) or "none", ", ".join(params.train_on) or "none"
    approaches = ", ".join(params.approaches) or "none"
    return project, ok("settings", f"datasets: {prepared}; trained on: {trained}; approaches: {approaches}")


def check_names(project: Project) -> Iterator[Finding]:
    """Datasets and approaches that do not exist, and stages whose engine is not installed."""
    params = project.params
    for name in dict.fromkeys((*params.datasets, *params.train_on)):
        if name not in params.data:
            yield problem("settings", f"dataset {name} has no block in data", f"add data.{name} to params.yaml")
    for name in params.train_on:
        if name not in params.datasets:
            yield problem("settings", f"{name} is in train_on but not in datasets", f"add {name} to datasets")
    yield from _check_engines(project)
    if params.train_on and not import_error("model.approaches"):
        from model.approaches import approach

        for name in params.approaches:
            try:
                approach(name)
            except ConfigError as error:
                yield problem("settings", error.fact, error.todo)


def _check_engines(project: Project) -> Iterator[Finding]:
    sections = [
        f"data.{name}.{stage}"
        for name, dataset in project.params.data.items()
        for stage in ("phrases", "ground", "regions")
        if getattr(dataset, stage).get("engine") == "ray"
    ]
    if sections and (error := import_error("ray.data")):
        yield problem("settings", f"{', '.join(sections)}: engine: ray, but {error}", "pip install 'fmit[ray]'")


def check_models(project: Project) -> Iterator[Finding]:
    """State of every model that the settings name, and sections that cannot be read."""
    from cache.models import inspect

    refs: dict[ModelRef, None] = {}
    for dataset in project.used_datasets():
        try:
            refs |= dict.fromkeys(project.models_of(dataset))
        except ConfigError as error:
            yield problem("settings", error.fact, error.todo or CORRECT_KEY)
        except (ImportError, RuntimeError) as error:  # torch and torchvision do not fit: check_versions reports it
            yield note("models", f"models of {dataset} were not checked: {' '.join(str(error).split())[:120]}")
    for ref in refs:
        status = inspect(ref)
        what = f"{ref.part} {ref.name}: {status.state}"
        if status.state != "present":
            yield problem("models", f"{what}: {status.problem}", ref.how_to_get)
        elif status.digest and not status.pinned:
            yield note("models", f"{what}, not pinned", f"put its digest into params.yaml: {status.digest}")
        else:
            yield ok("models", f"{what}{f', sha256 {status.digest}' if status.digest else ''}")

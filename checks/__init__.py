"""What `fmit doctor` checks before any work: machine, settings, models, data, store and DVC. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from checks.findings import Finding

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


def check_all(params_path: Path, *, with_data: bool, bar: Bar) -> Iterator[Finding]:
    """Every finding about a project; `bar` opens a progress bar for a label, such as `commands.console.progress`."""
    from checks import data, machine, settings, store
    from project import store_root

    root = params_path.absolute().parent
    yield from machine.check_hardware(root)
    yield from machine.check_versions()
    project, finding = settings.open_project(params_path)
    yield finding
    if project:
        yield from settings.check_names(project)
        yield from settings.check_models(project)
        for name in project.used_datasets() if with_data else ():
            with bar(f"reading {name}") as progress:
                findings = list(data.check_dataset(project, name, progress))
            yield from findings
    yield from store.check_store(store_root(root))
    yield from store.check_dvc(root)

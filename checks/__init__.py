"""What `fmit doctor` checks before any work: machine, settings, models, data, store and DVC. Nothing is written."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

ProgressBar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True)
class Finding:
    """One line of `fmit doctor`. A problem stops work or spoils its results; `todo` says how to solve it."""

    level: Literal["ok", "note", "problem"]
    topic: str
    what: str
    todo: str = ""


ok, note, problem = partial(Finding, "ok"), partial(Finding, "note"), partial(Finding, "problem")


def check_all(params_path: Path, *, with_data: bool, bar: ProgressBar) -> Iterator[Finding]:
    """Every finding about a project; `bar` opens a progress bar for a label, such as `commands.console.progress`."""
    from checks import data, setup
    from project import store_root

    root = params_path.absolute().parent
    yield from setup.check_hardware(root)
    yield from setup.check_versions()
    project, finding = setup.open_project(params_path)
    yield finding
    if project:
        yield from setup.check_names(project)
        yield from setup.check_models(project)
        for name in project.used_datasets() if with_data else ():
            with bar(f"reading {name}") as progress:
                findings = list(data.check_dataset(project, name, progress))
            yield from findings
    yield from setup.check_store(store_root(root))
    yield from setup.check_dvc(root)

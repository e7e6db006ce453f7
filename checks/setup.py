"""Checks of the machine and a project's setup: hardware, packages, params.yaml, models, the store, and DVC."""

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cache import maintenance
from cache.models import ModelRef, inspect
from checks import Finding, note, ok, problem
from project import Project
from schema.errors import ConfigError, StoreError

CORRECT_KEY = "correct this key in params.yaml"
MIN_FREE_BYTES = 2 << 30  # packs, store and a run of the embedded default take less
STAGES = ("phrases", "ground", "regions")  # which can run on Ray
PAIR = "reinstall the pair together: pip install -c constraints.txt torch torchvision"


def check_hardware(folder: Path) -> Iterator[Finding]:
    """Devices, memory, and the disk of `folder`, which need not exist."""
    yield ok("machine", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield ok("machine", f"{cores} CPU core(s), {memory:.0f} GiB memory")
    if error := import_error("torch"):
        yield problem("machine", f"torch cannot be imported: {error}", PAIR)
    else:
        import torch

        from kernels import has_bf16

        if not torch.cuda.is_available():
            has = "bfloat16" if has_bf16() else "no bfloat16: its settings compute in float32"
            yield ok("machine", f"no GPU that torch can use; {torch.get_num_threads()} CPU thread(s), {has}")
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            what = f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
            yield ok("machine", f"GPU {index}: {what}")
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    line = f"{free / 2**30:.1f} GiB free on the disk of {existing}"
    yield ok("machine", line) if free > MIN_FREE_BYTES else problem("machine", line, "free some space")


def check_versions() -> Iterator[Finding]:
    """Installed packages, and whether torch and torchvision fit together."""
    requirements = [package for package in _requirements("fmit") if 'extra == "dev"' not in str(package.marker)]
    optional = {package.name for package in requirements if "extra" in str(package.marker)}
    versions = {package.name: version for package in requirements if (version := _version(package.name))}
    for title, names in (("", versions.keys() - optional), ("extras: ", versions.keys() & optional)):
        yield ok("versions", title + (", ".join(f"{name} {versions[name]}" for name in sorted(names)) or "none"))
    if missing := sorted({package.name for package in requirements} - optional - versions.keys()):
        yield problem("versions", f"not installed: {', '.join(missing)}", "make install (or pip install -e .)")
    if "torch" in versions and "torchvision" in versions:
        yield check_pair(versions["torch"], versions["torchvision"])


def check_pair(torch_version: str, vision_version: str) -> Finding:
    """Whether torch and torchvision fit together: by their versions, then by importing torchvision."""
    versions = f"torch {torch_version}, torchvision {vision_version}"
    required = next((str(package.specifier) for package in _requirements("torchvision") if package.name == "torch"), "")
    if not SpecifierSet(required).contains(torch_version, prereleases=True):
        return problem("versions", f"{versions}: this torchvision needs torch {required}", PAIR)
    builds = {version.partition("+")[2] for version in (torch_version, vision_version) if "+" in version}
    if len(builds) > 1:
        return problem("versions", f"{versions}: two different builds", PAIR)
    if error := import_error("torchvision"):
        return problem("versions", f"{versions}: torchvision cannot be imported: {error}", PAIR)
    return ok("versions", f"{versions} are compatible")


def import_error(module: str) -> str:
    """Why a module cannot be imported; "" if it can."""
    try:
        importlib.import_module(module)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:  # what compiled code that does not fit raises
        return " ".join(str(error).split())[:200] or type(error).__name__
    return ""


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _requirements(package: str) -> list[Requirement]:
    """The requirements of a package, extras included; none if it is not installed."""
    lines = importlib.metadata.requires(package) if _version(package) else ()
    return [Requirement(line) for line in lines or ()]


def open_project(params_path: Path) -> tuple[Project | None, Finding]:
    """The project (None if params.yaml cannot be read), and the finding about it."""
    try:
        project = Project.open(params_path)
    except ConfigError as error:
        return None, problem("settings", error.fact, error.todo or CORRECT_KEY)
    lists = (project.params.datasets, project.params.train_on, project.params.approaches)
    prepared, trained, approaches = (", ".join(names) or "none" for names in lists)
    return project, ok("settings", f"datasets: {prepared}; trained on: {trained}; approaches: {approaches}")


def check_names(project: Project) -> Iterator[Finding]:
    """Datasets and approaches that do not exist, and stages whose engine is not installed."""
    params = project.params
    for name in dict.fromkeys((*params.datasets, *params.train_on)):
        if name not in params.data:
            yield problem("settings", f"dataset {name} has no block in data", f"add data.{name} to params.yaml")
        if name not in params.datasets:
            yield problem("settings", f"{name} is in train_on but not in datasets", f"add {name} to datasets")
    sections = [
        (f"data.{name}.{stage}", getattr(dataset, stage)) for name, dataset in params.data.items() for stage in STAGES
    ]
    on_ray = [name for name, section in sections if section.get("engine") == "ray"]
    if on_ray and (reason := import_error("ray.data")):
        yield problem("settings", f"{', '.join(on_ray)}: engine: ray, but {reason}", "pip install 'fmit[ray]'")
    if params.train_on and not import_error("model.approaches"):
        from model.approaches import approach

        for name in params.approaches:
            try:
                approach(name)
            except ConfigError as error:
                yield problem("settings", error.fact, error.todo)


def check_models(project: Project) -> Iterator[Finding]:
    """The state of each model that the settings name, and sections that cannot be read."""
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


def check_store(folder: Path) -> Iterator[Finding]:
    """Whether the store can be read and written, what it holds, and how many of its shards are quarantined."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        yield problem("store", f"{existing} is not a folder", "set FMIT_STORE to a folder")
        return
    todo = "change its permissions, or set FMIT_STORE"
    if not os.access(existing, os.R_OK | os.X_OK):
        yield problem("store", f"{existing} cannot be read", todo)
        return
    if not os.access(existing, os.W_OK | os.X_OK):
        yield problem("store", f"{existing} is read-only", todo)
    if not folder.exists():
        yield ok("store", f"{folder} does not exist yet: the first stage creates it")
        return
    try:
        directories = maintenance.stats(folder)
    except StoreError as error:
        yield problem("store", error.fact, error.todo or "change the folder's permissions")
        return
    n_rows = sum(sum(stats.rows.values()) for stats in directories)
    n_shards, n_bytes = (sum(getattr(stats, name) for stats in directories) for name in ("n_shards", "n_bytes"))
    yield ok("store", f"{folder}: {n_rows} rows in {n_shards} shard(s), {n_bytes / 1e6:.1f} MB")
    for stats in directories:
        if stats.n_quarantined:
            what = f"{stats.n_quarantined} damaged shard(s) in {stats.directory}/quarantine"
            yield note("store", what, "their rows are computed again when needed; check the disk if more appear")


def check_dvc(root: Path) -> Iterator[Finding]:
    """Whether `dvc repro` can work here. DVC itself is not run, so that nothing is written."""
    if not (shutil.which("dvc") or (Path(sys.executable).parent / "dvc").exists()):
        yield note("dvc", "DVC is not installed", "pip install dvc, or run each stage by its fmit command")
    for name, what, todo in ((".git", "git", "git init, then dvc init"), (".dvc", "DVC", "dvc init")):
        if not any((folder / name).exists() for folder in (root, *root.parents)):
            yield note("dvc", f"no {what} repository: dvc repro does not work here", todo)
    if not (root / "dvc.yaml").is_file():
        yield note("dvc", "no dvc.yaml: there are no stages to run", "copy the one from this repository")
    elif (root / "dvc.lock").is_file():
        yield ok("dvc", "stages have run; `dvc status` lists those that are out of date")
    else:
        yield note("dvc", "no dvc.lock: DVC has not run any stage yet", "dvc repro")

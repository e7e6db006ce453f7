"""Checks of the machine: hardware, disk, installed packages, and whether torch and torchvision fit together."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from checks.findings import Finding, ok, problem

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "numpy",
    "pyarrow",
    "h5py",
    "pillow",
    "spacy",
    "benepar",
    "pytorch-crf",
    "safetensors",
    "pydantic",
)
OPTIONAL = ("dvc", "ray", "s3fs", "gcsfs", "sshfs")
LEAST_FREE_BYTES = 2 << 30  # packs, store and a run of the embedded default take less
PAIR = "reinstall the pair together: pip install -c constraints.txt torch torchvision (README: CPU-only builds)"


def check_hardware(where: Path) -> Iterator[Finding]:
    """Devices, memory, disk below `where`."""
    yield ok("machine", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield ok("machine", f"{cores} CPU core(s){_memory()}")
    yield from _devices()
    free = shutil.disk_usage(_existing(where)).free
    line = f"{free / 2**30:.1f} GiB free on the disk of {_existing(where)}"
    yield ok("machine", line) if free > LEAST_FREE_BYTES else problem("machine", line, "free some space")


def check_versions() -> Iterator[Finding]:
    """Installed packages, and whether torch and torchvision fit together."""
    versions = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in versions.items() if not version]
    yield ok("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version) or "none")
    if missing:
        yield problem("versions", f"not installed: {', '.join(missing)}", "make install (or pip install -e .)")
    extras = [f"{name} {_version(name)}" for name in OPTIONAL if _version(name)]
    yield ok("versions", f"extras: {', '.join(extras) or 'none'}")
    if versions["torch"] and versions["torchvision"]:
        yield check_pair(versions["torch"], versions["torchvision"])


def check_pair(torch_version: str, vision_version: str) -> Finding:
    """Whether torch and torchvision are of the same build: by their versions, then by importing them."""
    versions, required = f"torch {torch_version}, torchvision {vision_version}", _required_torch()
    if required and not _satisfies(torch_version, required):
        return problem("versions", f"{versions}: this torchvision needs torch {required}", PAIR)
    builds = {version.partition("+")[2] for version in (torch_version, vision_version) if "+" in version}
    if len(builds) > 1:
        return problem("versions", f"{versions}: two different builds", PAIR)
    if error := import_error("torchvision"):
        return problem("versions", f"{versions}: torchvision cannot be imported: {error}", PAIR)
    return ok("versions", f"{versions} fit together")


def import_error(module: str) -> str:
    """Why a module cannot be imported; "" if it can."""
    try:
        importlib.import_module(module)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:  # what compiled code that does not fit raises
        return " ".join(str(error).split())[:200] or type(error).__name__
    return ""


def _devices() -> Iterator[Finding]:
    if not _version("torch"):
        return
    if error := import_error("torch"):
        yield problem("machine", f"torch cannot be imported: {error}", PAIR)
        return
    import torch

    if not torch.cuda.is_available():
        yield ok("machine", f"no GPU that torch can use; {torch.get_num_threads()} CPU thread(s)")
        return
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        memory = f"{gpu.total_memory / 2**30:.0f} GiB"
        yield ok("machine", f"GPU {index}: {gpu.name}, {memory}, CUDA {torch.version.cuda}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _required_torch() -> str:
    """The torch that the installed torchvision requires, such as `==2.14.0`; "" for any."""
    from packaging.requirements import InvalidRequirement, Requirement

    for line in importlib.metadata.requires("torchvision") or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.name == "torch":
            return str(requirement.specifier)
    return ""


def _satisfies(version: str, specifier: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifier).contains(version, prereleases=True)


def _memory() -> str:
    try:
        return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory"
    except (ValueError, OSError, AttributeError):
        return ""


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.resolve()
    return next(one for one in (path, *path.parents) if one.exists())

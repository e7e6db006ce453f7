"""Checks of the machine: Python, packages, the pair of torch and torchvision, devices, memory, disk."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from commands.doctor.findings import Finding, ok, problem

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


def hardware(where: Path) -> Iterator[Finding]:
    """Devices, memory, disk below `where`."""
    yield ok("machine", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield ok("machine", f"{cores} CPU core(s){_memory()}")
    yield from _devices()
    free = shutil.disk_usage(_existing(where)).free
    line = f"{free / 2**30:.1f} GiB free on the disk of {_existing(where)}"
    yield ok("machine", line) if free > LEAST_FREE_BYTES else problem("machine", line, "free some space")


def versions() -> Iterator[Finding]:
    """Packages that are there, and whether torch and torchvision fit together."""
    found = {name: _version(name) for name in PACKAGES}
    lost = [name for name, version in found.items() if not version]
    yield ok("versions", ", ".join(f"{name} {version}" for name, version in found.items() if version) or "none")
    if lost:
        yield problem("versions", f"not installed: {', '.join(lost)}", "make install (or pip install -e .)")
    more = [f"{name} {_version(name)}" for name in OPTIONAL if _version(name)]
    yield ok("versions", f"extras: {', '.join(more) or 'none'}")
    if found["torch"] and found["torchvision"]:
        yield pair(found["torch"], found["torchvision"])


def pair(torch_version: str, vision_version: str) -> Finding:
    """torch and torchvision must be of the same build: versions, then the loading of compiled code, decide."""
    versions, wanted = f"torch {torch_version}, torchvision {vision_version}", _wanted_torch()
    if wanted and not _satisfies(torch_version, wanted):
        return problem("versions", f"{versions}: this torchvision needs torch {wanted}", PAIR)
    builds = {version.partition("+")[2] for version in (torch_version, vision_version) if "+" in version}
    if len(builds) > 1:
        return problem("versions", f"{versions}: two different builds", PAIR)
    why = loads("torchvision")
    if why:
        return problem("versions", f"{versions}: torchvision cannot be loaded: {why}", PAIR)
    return ok("versions", f"{versions}: a pair that loads")


def loads(module: str) -> str:
    """Why a module cannot be imported; "" if it can."""
    try:
        importlib.import_module(module)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:  # what compiled code that does not fit raises
        return " ".join(str(error).split())[:200] or type(error).__name__
    return ""


def _devices() -> Iterator[Finding]:
    if not _version("torch"):
        return
    why = loads("torch")
    if why:
        yield problem("machine", f"torch cannot be loaded: {why}", PAIR)
        return
    import torch

    if not torch.cuda.is_available():
        yield ok("machine", f"no GPU that torch can use; {torch.get_num_threads()} CPU thread(s)")
        return
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        yield ok(
            "machine", f"GPU {index}: {about.name}, {about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
        )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _wanted_torch() -> str:
    """What the installed torchvision asks of torch, such as `==2.14.0`."""
    from packaging.requirements import InvalidRequirement, Requirement

    for line in importlib.metadata.requires("torchvision") or ():
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue
        if wanted.name == "torch":
            return str(wanted.specifier)
    return ""


def _satisfies(version: str, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(version, prereleases=True)


def _memory() -> str:
    try:
        return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory"
    except (ValueError, OSError, AttributeError):
        return ""


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.resolve()
    return next(one for one in (path, *path.parents) if one.exists())

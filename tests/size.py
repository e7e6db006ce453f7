"""Size of the product code: `python -m tests.size` prints a report.

Product code is every `*.py` outside tests and bench.
"""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.imports import PACKAGES, ROOT, TOP, module_of, modules_named

MAX_LINES, MAX_MODULES = 21_000, 175
MAX_BODY = {"median": 5, "p90": 16, "max": 45}  # lines of a function, without its head and docstring

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Size:
    """Figures of the product code; `bodies` has a length for each function, by `path:line name`."""

    n_lines: int
    n_modules: int
    single: tuple[str, ...]  # files with one function and nothing else
    bodies: Mapping[str, int]
    cycles: tuple[tuple[str, ...], ...]  # modules that import each other, type-checking imports included

    @property
    def body(self) -> dict[str, float]:
        """Median, 90th percentile and maximum of the bodies."""
        lengths = sorted(self.bodies.values())
        return {
            "median": statistics.median(lengths),
            "p90": lengths[int(0.9 * (len(lengths) - 1))],
            "max": lengths[-1],
        }


def product_files() -> list[Path]:
    """All product modules, sorted."""
    packages = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return sorted([*packages, *(ROOT / f"{name}.py" for name in TOP), *(ROOT / "weights").glob("*.py")])


def measure() -> Size:
    """Read and parse every product module."""
    texts = {path: path.read_text(encoding="utf-8") for path in product_files()}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    bodies = {
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}": body_length(function)
        for path, tree in trees.items()
        for function in ast.walk(tree)
        if isinstance(function, Function)
    }
    single = tuple(str(path.relative_to(ROOT)) for path, tree in trees.items() if is_single(tree))
    graph = {module_of(path): imports_of(path, tree) for path, tree in trees.items()}
    return Size(sum(text.count("\n") for text in texts.values()), len(texts), single, bodies, tuple(cycles(graph)))


def body_length(function: Function) -> int:
    """Lines from the first statement to the last, the docstring left out; 0 for a function that has only that."""
    statements = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return function.end_lineno - statements[0].lineno + 1 if statements and function.end_lineno else 0


def is_single(tree: ast.Module) -> bool:
    """Whether a module defines one function and no class."""
    defined = [node for node in tree.body if isinstance(node, (Function, ast.ClassDef))]
    return len(defined) == 1 and isinstance(defined[0], Function)


def imports_of(path: Path, tree: ast.Module) -> set[str]:
    """Product modules that a module imports, for type checkers too; not the packages that contain it."""
    module = module_of(path)
    return {
        name for name in modules_named(ast.walk(tree), path) if name != module and not module.startswith(f"{name}.")
    }


def cycles(graph: Mapping[str, set[str]]) -> Iterator[tuple[str, ...]]:
    """Groups of modules that can reach each other (strongly connected components of more than one), sorted."""
    reach: dict[str, set[str]] = {name: reachable(graph, name) for name in graph}
    grouped: set[str] = set()
    for name in sorted(graph):
        group = {name, *(other for other in reach[name] if name in reach.get(other, ()))}
        if len(group) > 1 and name not in grouped:
            grouped |= group
            yield tuple(sorted(group))


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Modules that `start` imports, directly or through others."""
    found: set[str] = set()
    todo = [start]
    while todo:
        new = graph.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return found


def report(size: Size) -> str:
    """The figures beside their limits, one a line."""
    limits = " ".join(f"{name} {value:g} (limit {MAX_BODY[name]})" for name, value in size.body.items())
    longest = sorted(size.bodies.items(), key=lambda one: -one[1])
    rows = [
        f"product lines: {size.n_lines} (limit {MAX_LINES})",
        f"modules: {size.n_modules} (limit {MAX_MODULES})",
        f"files with one function only: {len(size.single)} ({', '.join(size.single)})",
        f"function body, lines: {limits}",
        *(f"  {n} {where}" for where, n in longest[:5]),
        f"import cycles, type-checking imports included: {len(size.cycles)}",
        *(f"  {', '.join(cycle)}" for cycle in size.cycles),
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    print(report(measure()))

"""Which of our modules import which: read from the source, imports inside bodies included.

`python -m tests.imports` writes the code dependencies of every stage into dvc.yaml.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.grounding.registry import GROUNDERS

ROOT = Path(__file__).parent.parent
PACKAGES = ("schema", "cache", "vision", "pipeline", "model", "report", "synthetic", "checks", "commands")
TOP = ("bert", "kernels", "fmit", "project", "pages", "cli")

ENTRIES = {  # stage of dvc.yaml -> the modules whose imports are the stage's code
    "draw": ("synthetic.draw",),
    "ingest": ("pipeline.corpus.stage",),
    "phrases": ("pipeline.phrases.stage",),
    "ground": ("pipeline.grounding.stage", *sorted({entry.module for entry in GROUNDERS.values()})),
    "regions": ("pipeline.regions.stage",),
    "train": ("model.train",),
    "evaluate": ("model.evaluate",),
    "report": ("report.html",),
}


def file_of(module: str) -> Path | None:
    """The file of one of our modules, or None if there is no such module of ours."""
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def module_of(path: Path) -> str:
    """The dotted name of one of our files."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """Our modules that a file imports when it runs, anywhere in it; packages that contain a module count too."""
    return modules_named(running(ast.parse(path.read_text(encoding="utf-8"))), path)


def modules_named(nodes: Iterable[ast.AST], path: Path) -> set[str]:
    """Our modules that the import statements among some nodes of a file name."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in names if name.split(".")[0] in (*PACKAGES, *TOP) and file_of(name)}
    return ours | {parent for name in ours for parent in parents(name)}


def running(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below a node, without what only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield child
            yield from running(child)


def parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def closure(*entries: str) -> list[str]:
    """Files, relative to the root and sorted, of some modules and all of ours that they import, directly or not."""
    todo, seen = [name for entry in entries for name in (entry, *parents(entry))], set()
    while todo:
        module = todo.pop()
        path = file_of(module)
        assert path is not None, f"no module {module}"
        if path not in seen:
            seen.add(path)
            todo += imported(path)
    return sorted(path.relative_to(ROOT).as_posix() for path in seen)


def write_stage_code() -> None:
    """Put each stage's code among its deps in dvc.yaml, behind its data."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = ROOT / "dvc.yaml"
    document = yaml.load(path.read_text(encoding="utf-8"))
    for stage, entries in ENTRIES.items():
        block = document["stages"][stage]
        block = block.get("do", block)
        block["deps"] = [dep for dep in block["deps"] if not dep.endswith(".py")] + closure(*entries)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


if __name__ == "__main__":
    write_stage_code()

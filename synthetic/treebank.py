"""Trees in Penn Treebank brackets: words as they are written, and constituents with their labels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from schema.errors import DataError

TOKEN = re.compile(r"[()]|[^\s()]+")
BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}", "``": '"', "''": '"'}
ROOTS = ("", "ROOT", "TOP", "S1")  # what release formats call the node above the sentence
TRACE = "-NONE-"  # tag of an empty element, which is no word


@dataclass(frozen=True, slots=True)
class Tree:
    """A sentence: words, their part-of-speech tags, and constituents (start, end, label), inner ones first."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    spans: tuple[tuple[int, int, str], ...]

    def labelled(self, label: str) -> set[tuple[int, int]]:
        return {(start, end) for start, end, name in self.spans if name == label}

    def chains(self) -> dict[tuple[int, int], str]:
        """One label a span: nodes over the same words are joined from the outermost in, `S+VP`."""
        found: dict[tuple[int, int], list[str]] = {}
        for start, end, label in self.spans:
            found.setdefault((start, end), []).append(label)
        return {span: "+".join(reversed(labels)) for span, labels in found.items()}


def category(label: str) -> str:
    """The label up to its first `-`: `NP-SBJ` is an NP. The tag `-LRB-` is itself."""
    return label if label.startswith("-") else label.split("-", 1)[0]


def read(path: Path) -> list[Tree]:
    """The trees of a bracketed file, in order; raises DataError with file:line for brackets that do not fit.

    Trees of no word (empty ones, traces alone) are left out.
    """
    text = _text(path)
    trees: list[Tree] = []
    builder, began = _Builder(), 0
    for match in TOKEN.finditer(text):
        if not builder.open:
            began = match.start()
        if problem := builder.take(match.group()):
            raise DataError(problem, where=f"{path}:{_line(text, match.start())}", found=repr(match.group()))
        if builder.closed:
            if builder.words:
                trees.append(builder.tree())
            builder = _Builder()
    if builder.open:
        todo = "is a bracket missing, or the file cut off?"
        raise DataError("the tree that begins here is not closed", where=f"{path}:{_line(text, began)}", todo=todo)
    return trees


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("not a text in UTF-8", where=str(path), todo="save it as UTF-8") from error


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


class _Builder:
    """One tree, token by token; a node is open until its bracket closes."""

    def __init__(self) -> None:
        self.open: list[tuple[int, list[str], bool]] = []  # first word, the tokens at its own level, has nodes below
        self.closed = False
        self.words: list[str] = []
        self._tags: list[str] = []
        self._spans: list[tuple[int, int, str]] = []

    def take(self, token: str) -> str:
        """Take one token; answers what is wrong with it, or ""."""
        if token == "(":
            if self.open:
                start, parts, _ = self.open[-1]
                self.open[-1] = (start, parts, True)
            self.open.append((len(self.words), [], False))
            return ""
        if not self.open:
            return "a tree begins with ("
        if token != ")":
            self.open[-1][1].append(token)
            return ""
        return self._close()

    def _close(self) -> str:
        start, parts, inner = self.open.pop()
        self.closed = not self.open
        if inner and len(parts) > 1:
            return "words and nodes beside each other in one node"
        if self.closed and not inner and len(parts) < 2:
            return ""  # an empty tree
        if not inner and len(parts) != 2:
            return "a leaf needs a tag and a word"
        if inner:
            label = category(parts[0]) if parts else ""
            if label not in ROOTS and start < len(self.words):
                self._spans.append((start, len(self.words), label))
        elif parts[0] != TRACE:
            self._tags.append(category(parts[0]))
            self.words.append(BRACKETS.get(parts[1], parts[1]))
        return ""

    def tree(self) -> Tree:
        return Tree(tuple(self.words), tuple(self._tags), tuple(self._spans))

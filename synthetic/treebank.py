"""Trees in Penn Treebank brackets: words as they are written, and constituents with their labels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.phrases.parser import ROOTS, Node, category
from schema.errors import DataError

TOKEN = re.compile(r"[()]|[^\s()]+")
BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}", "``": '"', "''": '"'}
TRACE = "-NONE-"  # tag of an empty element, which is no word


@dataclass(frozen=True, slots=True)
class Tree:
    """A sentence: words, their part-of-speech tags, and constituents (start, end, label), inner ones first."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    spans: tuple[Node, ...]

    def labelled(self, label: str) -> set[tuple[int, int]]:
        return {(start, end) for start, end, name in self.spans if name == label}

    def chains(self) -> dict[tuple[int, int], str]:
        """One label a span: the labels of nodes over the same words are joined from the outermost in, `S+VP`."""
        found: dict[tuple[int, int], str] = {}
        for start, end, label in self.spans:
            found[start, end] = f"{label}+{found[start, end]}" if (start, end) in found else label
        return found


@dataclass
class _Node:
    """A node whose bracket is still open: its first word, the tokens directly in it, whether it has nodes in it."""

    start: int
    tokens: list[str] = field(default_factory=list)
    has_children: bool = False


def read(path: Path) -> list[Tree]:
    """The trees of a bracketed file, in order, without empty ones; raises DataError with file:line for bad brackets."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("not a text in UTF-8", where=str(path), todo="save it as UTF-8") from error

    def line(offset: int) -> str:
        return f"{path}:{text.count(chr(10), 0, offset) + 1}"

    trees: list[Tree] = []
    open_nodes: list[_Node] = []
    words: list[str] = []
    tags: list[str] = []
    spans: list[Node] = []
    first = 0
    for match in TOKEN.finditer(text):
        token, problem = match.group(), ""
        if token == "(":
            if open_nodes:
                open_nodes[-1].has_children = True
            else:
                first, words, tags, spans = match.start(), [], [], []
            open_nodes.append(_Node(len(words)))
        elif not open_nodes:
            problem = "a tree begins with ("
        elif token != ")":
            open_nodes[-1].tokens.append(token)
        else:
            problem = _close(open_nodes.pop(), not open_nodes, words, tags, spans)
            if not open_nodes and words:
                trees.append(Tree(tuple(words), tuple(tags), tuple(spans)))
        if problem:
            raise DataError(problem, where=line(match.start()), found=repr(token))
    if open_nodes:
        todo = "is a bracket missing, or the file cut off?"
        raise DataError("the tree that begins here is not closed", where=line(first), todo=todo)
    return trees


def _close(node: _Node, is_root: bool, words: list[str], tags: list[str], spans: list[Node]) -> str:
    """Add a node whose bracket closes to the tree; returns what is wrong with it, or ""."""
    tokens = node.tokens
    if node.has_children:
        if len(tokens) > 1:
            return "words and nodes beside each other in one node"
        label = category(tokens[0]) if tokens else ""
        if label not in ROOTS and node.start < len(words):
            spans.append((node.start, len(words), label))
    elif len(tokens) == 2:
        if tokens[0] != TRACE:
            tags.append(category(tokens[0]))
            words.append(BRACKETS.get(tokens[1], tokens[1]))
    elif len(tokens) > 2 or not is_root:  # at the root, an empty tree
        return "a leaf needs a tag and a word"
    return ""

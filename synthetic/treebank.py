"""Trees in Penn Treebank brackets: words as they are written, and constituents with their labels."""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.phrases.parser import ROOTS, Node, category
from schema.errors import DataError

TOKEN = re.compile(r"[()]|[^\s()]+")
BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}", "``": '"', "''": '"'}
TRACE = "-NONE-"  # tag of an empty element, which is no word
CHILD = ""  # stands for a node among the tokens of a node


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
        chains: dict[tuple[int, int], str] = {}
        for start, end, label in self.spans:
            chains[start, end] = f"{label}+{chains[start, end]}" if (start, end) in chains else label
        return chains


def read(path: Path) -> list[Tree]:
    """The trees of a bracketed file, in order, without empty ones; raises DataError with file:line for bad brackets."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("not a text in UTF-8", where=str(path), todo="save it as UTF-8") from error

    def line(offset: int) -> str:
        return f"{path}:{text.count(chr(10), 0, offset) + 1}"

    trees: list[Tree] = []
    open_nodes: list[tuple[int, list[str]]] = []  # the first word of a node, and the tokens directly in it
    words: list[str] = []
    tags: list[str] = []
    spans: list[Node] = []
    first = 0
    for match in TOKEN.finditer(text):
        token, problem = match.group(), ""
        if token == "(":
            if open_nodes:
                open_nodes[-1][1].append(CHILD)
            else:
                first, words, tags, spans = match.start(), [], [], []
            open_nodes.append((len(words), []))
        elif not open_nodes:
            problem = "a tree begins with ("
        elif token != ")":
            open_nodes[-1][1].append(token)
        else:
            start, tokens = open_nodes.pop()
            problem = _close(start, tokens, not open_nodes, words, tags, spans)
            if not open_nodes and words:
                trees.append(Tree(tuple(words), tuple(tags), tuple(spans)))
        if problem:
            raise DataError(problem, where=line(match.start()), found=repr(token))
    if open_nodes:
        what, todo = "the tree that begins here is not closed", "is a bracket missing, or the file cut off?"
        raise DataError(what, where=line(first), todo=todo)
    return trees


def _close(start: int, tokens: list[str], is_root: bool, words: list[str], tags: list[str], spans: list[Node]) -> str:
    """Add a node whose bracket closes to the tree; returns what is wrong with it, or ""."""
    if CHILD in tokens:
        own = [token for token in tokens if token != CHILD]
        if len(own) > 1:
            return "words and nodes beside each other in one node"
        label = category(own[0]) if own else ""
        if label not in ROOTS and start < len(words):
            spans.append((start, len(words), label))
    elif len(tokens) == 2:
        if tokens[0] != TRACE:
            tags.append(category(tokens[0]))
            words.append(BRACKETS.get(tokens[1], tokens[1]))
    elif len(tokens) > 2 or not is_root:  # at the root, an empty tree
        return "a leaf needs a tag and a word"
    return ""

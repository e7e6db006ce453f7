"""Penn brackets: a tree by hand, and every way they can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedded import treebank
from schema.errors import DataError


def read(tmp_path: Path, text: str) -> list[treebank.Tree]:
    path = tmp_path / "trees.ptb"
    path.write_text(text, encoding="utf-8")
    return treebank.read(path)


def test_a_tree_by_hand(tmp_path: Path) -> None:
    [tree] = read(
        tmp_path,
        "(ROOT\n (S (NP-SBJ=1 (DT the) (NN dog)) (VP (VBD saw) (NP-1 (-NONE- *T*)) (NP (-LRB- -LRB-) (NNP Bo)))))",
    )
    assert tree.words == ("the", "dog", "saw", "(", "Bo")  # traces are no words, brackets are written out
    assert tree.tags == ("DT", "NN", "VBD", "-LRB-", "NNP")
    assert sorted(tree.spans) == [(0, 2, "NP"), (0, 5, "S"), (2, 5, "VP"), (3, 5, "NP")]
    assert tree.labelled("NP") == {(0, 2), (3, 5)}


def test_nodes_over_the_same_words_are_chained_from_the_outermost(tmp_path: Path) -> None:
    [tree] = read(tmp_path, "( (S (NP (NP (NN it)))))")
    assert tree.chains() == {(0, 1): "S+NP+NP"}
    assert tree.labelled("NP") == {(0, 1)}


def test_several_trees_and_none(tmp_path: Path) -> None:
    assert [tree.words for tree in read(tmp_path, "(ROOT (X (A b)))(ROOT (X (A c)))\n")] == [("b",), ("c",)]
    assert read(tmp_path, " \n") == []
    assert read(tmp_path, "(ROOT (NP (-NONE- *)))") == []  # traces alone are no sentence


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(ROOT (NN a))\nword", r"trees\.ptb:2: a tree begins with \( \(found 'word'\)"),
        ("(ROOT (NN a)))", r"trees\.ptb:1: a tree begins with \("),
        ("(ROOT (NP (NN a) b))", r"words and nodes beside each other"),
        ("(ROOT\n (NN a b))", r"trees\.ptb:2: a leaf needs a tag and a word"),
        ("(ROOT (NN a)", r"the last tree is not closed"),
    ],
)
def test_brackets_that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)

"""Penn brackets: a tree by hand, and every way they can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from schema.errors import DataError
from synthetic.parser_training import Tree, read_trees


def read(tmp_path: Path, text: str) -> list[Tree]:
    path = tmp_path / "trees.ptb"
    path.write_text(text, encoding="utf-8")
    return read_trees(path)


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
    assert read(tmp_path, "(ROOT )\n( )\n()(ROOT)") == []


def test_a_label_is_cut_at_its_first_hyphen_and_nowhere_else(tmp_path: Path) -> None:
    [tree] = read(tmp_path, "(NP-SBJ-1 (NP=2 (NN a)) (NP|X (NN b)) (NP-TMP=3 (NN c)) (NPX (NN d)))")
    assert tree.labelled("NP") == {(0, 4), (2, 3)}


def test_line_ends_and_marks_of_other_systems_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trees.ptb"
    path.write_bytes(b"\xef\xbb\xbf(ROOT\r\n  (NP (NN a)))\r\n(NP (NN b))\r\n")
    assert [tree.words for tree in read_trees(path)] == [("a",), ("b",)]


def test_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trees.ptb"
    path.write_bytes("(NP (NN caf\xe9))".encode("latin-1"))
    with pytest.raises(DataError, match=r"trees\.ptb: not UTF-8 text; save it as UTF-8"):
        read_trees(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(ROOT (NN a))\nword", r"trees\.ptb:2: a tree begins with \( \(found 'word'\)"),
        ("(ROOT (NN a)))", r"trees\.ptb:1: a tree begins with \("),
        ("(ROOT (NP (NN a) b))", r"a node contains both words and nodes"),
        ("(ROOT\n (NN a b))", r"trees\.ptb:2: a leaf needs a tag and a word"),
        ("(NN x)\n(ROOT (NN a)\n(NN b)", r"trees\.ptb:2: the tree that begins here is not closed"),
        ("(ROOT (S ))", r"a leaf needs a tag and a word"),
    ],
)
def test_brackets_that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)

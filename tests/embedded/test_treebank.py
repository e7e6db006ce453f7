import pytest

from embedded import treebank
from schema.errors import DataError

TREE = """(ROOT
  (S (NP-SBJ (DT The) (NN cat) (-NONE- *)) (VP (VBZ sits) (PRN (-LRB- -LRB-) (NP (NNP Rome)) (-RRB- -RRB-))) (. .)))
"""


def read(tmp_path, text):
    path = tmp_path / "a.ptb"
    path.write_text(text)
    return treebank.read(path)


def test_words_tags_and_constituents(tmp_path):
    (tree,) = read(tmp_path, TREE)
    assert tree.words == ("The", "cat", "sits", "(", "Rome", ")", ".")
    assert tree.tags[:3] == ("DT", "NN", "VBZ")
    assert set(tree.spans) == {(0, 2, "NP"), (4, 5, "NP"), (3, 6, "PRN"), (2, 6, "VP"), (0, 7, "S")}
    assert tree.labelled("NP") == {(0, 2), (4, 5)}


def test_nodes_over_the_same_words_make_a_chain(tmp_path):
    (tree,) = read(tmp_path, "(ROOT (S (VP (VB Go))))")
    assert tree.chains() == {(0, 1): "S+VP"}


def test_a_tree_of_traces_alone_is_none(tmp_path):
    assert read(tmp_path, "(ROOT (NP (-NONE- *)))") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TREE + "(ROOT (S", "the last tree is not closed"),
        (TREE + "word", r"a.ptb:3: a tree begins with \( .found 'word'"),
        ("(ROOT (NP dog (NN cat)))", "a.ptb:1: words and nodes beside each other"),
        ("(ROOT (NN))", "a leaf needs a tag and a word"),
    ],
)
def test_bad_brackets_are_placed(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)

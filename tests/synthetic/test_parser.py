"""Training in small: it learns, and a killed run ends in the same weights."""

from pathlib import Path

import pytest

from cache.keys import digest_file
from pipeline.phrases import span_parser
from pipeline.phrases.span_network import Size
from synthetic import parser_training
from synthetic.parser_training import score
from tests.imports import ROOT

TREEBANK = ROOT.parent / "shared" / "data" / "treebank" / "train.ptb"
RECIPE = parser_training.Recipe(size=Size(minilm_layers=1, rank=1, width=32, layers=1, hidden=16), epochs=2, batch=4)
SENTENCES = (
    "(ROOT (S (NP (DT The) (NN {0})) (VP (VBZ sees) (NP (DT a) (NN {1}))) (. .)))",
    "(ROOT (S (NP (NNP {0})) (VP (VBZ likes) (NP (JJ red) (NNS {1})))))",
)
NOUNS = ("dog", "cat", "house", "man", "ball")


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    path = tmp_path / "a.ptb"
    pairs = [(one, two) for one in NOUNS for two in NOUNS]
    path.write_text("\n".join(text.format(*pair) for pair in pairs[::3] for text in SENTENCES))
    return path


def test_a_killed_training_ends_in_the_same_weights(trees, tmp_path):
    list(parser_training.train(trees, tmp_path / "whole.safetensors", recipe=RECIPE, resume=tmp_path / "r1"))
    broken = parser_training.train(trees, tmp_path / "again.safetensors", recipe=RECIPE, resume=tmp_path / "r2")
    assert next(broken).epoch == 1
    broken.close()
    epochs = [
        one.epoch
        for one in parser_training.train(trees, tmp_path / "again.safetensors", recipe=RECIPE, resume=tmp_path / "r2")
    ]
    assert epochs == [2]
    assert digest_file(tmp_path / "again.safetensors") == digest_file(tmp_path / "whole.safetensors")
    assert digest_file(tmp_path / "again.safetensors") in (tmp_path / "again.md").read_text()
    assert span_parser.load(tmp_path / "whole.safetensors").parse([["The", "dog"]])


def test_blocks_held_out_are_not_trained_on():
    made = [parser_training.Tree((str(k),), ("NN",), ()) for k in range(400)]
    fit, measured = parser_training.held_out(made)
    assert len(fit) + len(measured) == 400
    assert not {tree.words for tree in fit} & {tree.words for tree in measured}
    numbers = [int(tree.words[0]) for tree in measured]
    assert numbers[:20] == list(range(numbers[0], numbers[0] + 20)), "a contiguous block"


@pytest.mark.skipif(not TREEBANK.is_file(), reason="needs ../shared/data/treebank, which is not here")
def test_the_shipped_parser_keeps_its_promise_on_held_out_trees():
    _, measured = parser_training.held_out(parser_training.read_trees(TREEBANK))
    found = score(measured[:120], span_parser.load(ROOT / "weights/parser.safetensors"))
    assert found.f1 >= 0.8

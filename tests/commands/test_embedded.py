import json

TREE = "(ROOT (S (NP-SBJ (DT The) (NN cat)) (VP (VBZ sits)) (. .)))\n"


def test_the_parser_is_scored_on_trees(fmit, tmp_path):
    path = tmp_path / "a.ptb"
    path.write_text(TREE)
    found = json.loads(fmit("embedded", "score-parser", path, "--json").stdout)
    rates = dict.fromkeys(("precision", "recall", "f1"), 1.0)
    assert found == {**rates, "n_gold": 1, "n_predicted": 1, "n_correct": 1, "n_sentences": 1}
    assert "F1 1.0000, on edited text" in fmit("embedded", "score-parser", path).stdout


def test_the_trees_kept_from_training_are_scored_alone(fmit, tmp_path):
    path = tmp_path / "a.ptb"
    path.write_text(TREE * 100 + "(ROOT (S (NP (NP (DT The) (NN cat)) (NP (NN sits))) (. .)))\n" * 20 + TREE * 100)
    assert json.loads(fmit("embedded", "score-parser", path, "--json").stdout)["recall"] > 0.8
    found = json.loads(fmit("embedded", "score-parser", path, "--held-out", "--json").stdout)
    assert found["recall"] < 0.5, "only trees 100 to 119"
    (tmp_path / "b.ptb").write_text(TREE)
    result = fmit("embedded", "score-parser", tmp_path / "b.ptb", "--held-out")
    assert result.exit_code == 1
    assert "no trees to score" in result.stderr


def test_bad_trees_are_placed(fmit, tmp_path):
    path = tmp_path / "a.ptb"
    path.write_text(TREE + "(ROOT (S\n")
    result = fmit("embedded", "score-parser", path)
    assert result.exit_code == 1
    assert f"{path}:2: the tree that begins here is not closed" in result.stderr

"""Scores against seqeval and nervaluate, over random tags and planted disagreements."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nervaluate import Evaluator
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from model.evaluate import confusion, score
from schema.errors import DataError
from schema.scores import Counts

TYPES = ("PER", "LOC", "ORG")
TAGS = ["O"] + [f"{prefix}-{name}" for name in TYPES for prefix in "BI"]


def random_posts(seed: int, n_posts: int = 60) -> tuple[list[list[str]], list[list[str]]]:
    """Gold tags of any kind (orphan `I-` too) and predictions that agree on about two thirds of the words."""
    rng = random.Random(seed)
    gold = [[rng.choice(TAGS) for _ in range(rng.randint(1, 12))] for _ in range(n_posts)]
    predicted = [[tag if rng.random() < 0.67 else rng.choice(TAGS) for tag in tags] for tags in gold]
    return gold, predicted


def report(gold: list[list[str]], predicted: list[list[str]], **options: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return classification_report(gold, predicted, output_dict=True, zero_division=0, **options)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("lenient", [False, True])
def test_equals_seqeval(seed: int, lenient: bool) -> None:
    gold, predicted = random_posts(seed)
    expected = report(gold, predicted, **({} if lenient else {"mode": "strict", "scheme": IOB2}))
    ours = score(gold, predicted, TYPES, lenient=lenient)
    for name, counts in [("micro avg", ours.micro), *ours.types.items()]:
        row = expected[name]
        assert (counts.precision, counts.recall, counts.f1) == pytest.approx(
            (row["precision"], row["recall"], row["f1-score"]), abs=1e-12
        )
        assert counts.n_gold == row["support"]


def test_equals_nervaluate_on_well_formed_tags() -> None:
    gold, predicted = (
        [["O" if tag.startswith("I-") else tag for tag in post] for post in posts] for posts in random_posts(5)
    )
    result = Evaluator(gold, predicted, tags=list(TYPES), loader="list").evaluate()["overall"]["strict"]
    micro = score(gold, predicted, TYPES).micro
    assert (micro.n_correct, micro.n_gold, micro.n_predicted) == (result.correct, result.possible, result.actual)
    assert micro.f1 == pytest.approx(result.f1)


def test_strict_and_lenient_differ_by_orphans_only() -> None:
    gold = [["I-PER", "O", "B-LOC", "I-ORG"]]
    assert score(gold, gold, TYPES).micro == Counts(1, 1, 1)
    assert score(gold, gold, TYPES, lenient=True).micro == Counts(3, 3, 3)


def test_nothing_to_find() -> None:
    micro = score([["O"]], [["O"]], TYPES).micro
    assert (micro.precision, micro.recall, micro.f1) == (0.0, 0.0, 0.0)
    assert score([], [], TYPES).to_json()["types"]["LOC"]["n_gold"] == 0


def test_json_holds_the_figures() -> None:
    ours = score([["B-PER", "O"]], [["B-PER", "B-LOC"]], TYPES).to_json()
    assert ours["micro"] == {
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "n_gold": 1,
        "n_predicted": 2,
        "n_correct": 1,
    }
    assert list(ours["types"]) == list(TYPES)


@given(st.lists(st.sampled_from(TAGS), min_size=1, max_size=20), st.randoms())
def test_confusion_counts_every_word_once(tags: list[str], rng: random.Random) -> None:
    shuffled = tags[:]
    rng.shuffle(shuffled)
    pairs = confusion([(tags, shuffled)])
    assert sum(pairs.values()) == len(tags)
    actual: Counter[str] = Counter()
    for (name, _), count in pairs.items():
        actual[name] += count
    assert actual == Counter(tag[2:] or "O" for tag in tags)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        score([["O"]], [], TYPES)
    with pytest.raises(DataError, match="post 0: gold and predicted tags differ"):
        score([["O"]], [["O", "O"]], TYPES)

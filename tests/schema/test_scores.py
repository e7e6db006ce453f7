"""Precision, recall and F1 by hand."""

import pytest

from schema.scores import Counts


def test_by_hand() -> None:
    counts = Counts(n_gold=8, n_predicted=5, n_correct=4)
    assert (counts.precision, counts.recall) == (0.8, 0.5)
    assert counts.f1 == pytest.approx(2 * 0.8 * 0.5 / 1.3)
    assert counts.to_json() == {
        "precision": 0.8,
        "recall": 0.5,
        "f1": counts.f1,
        "n_gold": 8,
        "n_predicted": 5,
        "n_correct": 4,
    }


def test_nothing_there_is_zero() -> None:
    assert (Counts().precision, Counts().recall, Counts().f1) == (0.0, 0.0, 0.0)
    assert Counts(n_gold=3).f1 == Counts(n_predicted=3).f1 == 0.0


def test_counts_add_up() -> None:
    assert Counts(1, 2, 3) + Counts(10, 20, 30) == Counts(11, 22, 33)

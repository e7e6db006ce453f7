import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.breakdown import expected_error, judged, reliability
from tests.report.examples import Maker, prediction

JUDGED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@given(JUDGED)
def test_against_a_plain_loop_over_bins(judged):
    confidence, right = np.array([c for c, _ in judged]), np.array([r for _, r in judged], dtype=float)
    place = np.minimum((confidence * 10).astype(int), 9)
    error = 0.0
    for index in range(10):
        here = place == index
        if here.any():
            error += here.mean() * abs(right[here].mean() - confidence[here].mean())
    assert expected_error(reliability(judged)) == pytest.approx(error, abs=1e-12)


@given(JUDGED)
def test_each_prediction_is_in_one_bin_that_contains_its_mean(judged):
    bins = reliability(judged)
    assert sum(found.n for found in bins) == len(judged)
    for found in bins:
        if found.n:
            assert found.low - 1e-9 <= found.confidence <= found.high + 1e-9


def test_bins_by_hand():
    judged = [(0.95, True)] * 3 + [(0.95, False)] + [(0.55, True), (0.55, False)]
    bins = reliability(judged)
    assert (bins[9].n, bins[9].accuracy, bins[5].n) == (4, 0.75, 2)
    assert math.isclose(expected_error(bins), (4 * 0.2 + 2 * 0.05) / 6)
    assert reliability([(1.0, True)])[9].n == 1  # the last bin is closed
    assert expected_error(reliability([])) is None


def test_predictions_without_confidence_are_not_judged():
    line = Maker(1).post(0)
    line["gold"] = [{"start": 0, "end": 1, "type": "PER"}]
    given = [(0, 1, "PER", 0.75), (2, 3, "LOC", 0.25), (3, 4, "LOC", None)]
    line["entities"] = [dict(zip(("start", "end", "type", "confidence"), one, strict=True)) for one in given]
    assert list(judged([prediction(line)])) == [(0.75, True), (0.25, False)]

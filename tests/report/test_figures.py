import re
from xml.etree import ElementTree as Tree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.breakdown import reliability
from report.figures import Axes, draw, learning_curve, reliability_plot, ticks

CURVES = [{"epoch": 1, "train_loss": 8.0, "dev_f1": 0.5}, {"epoch": 2, "train_loss": 4.0, "dev_f1": 0.75}]
NS = "{http://www.w3.org/2000/svg}"


def parsed(markup):
    return Tree.fromstring(str(markup))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_enclose_the_range_with_few_round_steps(low, span):
    found = ticks(low, low + span)
    assert found[0] <= low + 1e-6 * span
    assert found[-1] >= low + span - 1e-6 * span
    assert 2 <= len(found) <= 13


def test_ticks_of_common_ranges():
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(0.52, 0.83) == [0.5, 0.6, 0.7, 0.8, 0.9]
    assert ticks(0.7, 0.7) != []


def test_a_curve_passes_through_its_points():
    drawing = parsed(learning_curve(CURVES, {"train_loss": "loss"}, "loss"))
    axes = Axes((1, 2), (0, 8))
    path = next(one for one in drawing.iter("path"))
    numbers = list(map(float, re.findall(r"[\d.]+", path.get("d"))))
    wanted = [*axes.at(1, 8.0), *axes.at(2, 4.0)]
    assert numbers == pytest.approx(wanted, abs=0.06)
    titles = [one.find("title").text for one in drawing.iter("circle")]
    assert titles == ["loss at 1: 8", "loss at 2: 4"]


def test_the_selected_epoch_is_marked():
    drawing = parsed(learning_curve(CURVES, {"dev_f1": "F1"}, "score", best=2))
    mark = next(one for one in drawing.iter("line") if one.get("class") == "best")
    assert float(mark.get("x1")) == pytest.approx(Axes((1, 2), (0, 1)).at(2, 0)[0])
    assert "best" not in str(learning_curve(CURVES, {"dev_f1": "F1"}, "score", best=7))


def test_curves_without_numbers_have_no_figure():
    assert learning_curve([], {"dev_f1": "F1"}, "score") is None
    assert (
        learning_curve([{"epoch": 1, "dev_f1": None}, {"epoch": 2, "dev_f1": float("nan")}], {"dev_f1": "F1"}, "s")
        is None
    )


def test_a_bar_of_a_reliability_plot_is_as_high_as_its_accuracy():
    bins = reliability([(0.95, True)] * 3 + [(0.95, False)])
    drawing = parsed(reliability_plot(bins))
    found = [one for one in drawing.iter("rect") if one.get("class") == "bar"]
    axes = Axes((0, 1), (0, 1))
    base, top = axes.at(0, 0)[1], axes.at(0, 0.75)[1]
    assert len(found) == 1
    assert float(found[0].get("height")) == pytest.approx(base - top, abs=0.01)
    assert "4 predictions, mean confidence 0.950, 75.0% correct" in found[0].find("title").text


def test_a_score_bar_is_as_long_as_its_score():
    drawing = parsed(draw("score_bar", value=0.4, mark=0.6))
    assert [float(one.get("width")) for one in drawing if one.get("class") == "fill"] == [40]
    assert [float(one.get("x")) for one in drawing if one.get("class") == "mark"] == [60]
    assert "mark" not in draw("score_bar", value=0.4)


def test_text_is_escaped_and_made_safe():
    drawing = str(learning_curve(CURVES, {"dev_f1": '</svg><script>alert(1)</script>\u202e"'}, "<b>"))
    assert "<script" not in drawing
    assert "<b>" not in drawing
    assert "\u202e" not in drawing
    parsed(drawing)


@pytest.mark.parametrize(("score", "ends"), [(1.0, ("0.9", "1")), (0.0, ("0", "0.1")), (0.5, ("0.4", "0.6"))])
def test_the_axis_of_a_constant_score_stays_within_0_and_1(score, ends):
    curve = learning_curve([{"epoch": 1, "f1": score}, {"epoch": 2, "f1": score}], {"f1": "F1"}, "dev score", 1)
    texts = re.findall(r'class="tick end"[^>]*>([^<]*)<', str(curve))
    assert (texts[0], texts[-1]) == ends
    assert re.search(r'class="tick" [^>]*>kept<', str(curve)), "beside the axis' topmost number, not on it"

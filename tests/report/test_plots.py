import re
from xml.etree import ElementTree as Tree

from report.figures import LABELS, paired_bars


def test_a_bar_is_as_long_as_its_number():
    svg = Tree.fromstring(paired_bars("t", {"a": [10, 5], "b<": [2.5, 0]}, ("up", "down")))
    bars = list(svg.iter("rect"))
    widths = [float(bar.get("width")) for bar in bars]
    assert widths[1] == widths[0] / 2
    assert widths[2] == widths[0] / 4
    assert widths[3] == 0
    assert {float(bar.get("x")) for bar in bars} == {float(LABELS)}
    assert [bar.get("class") for bar in bars] == ["fill s0", "fill s1"] * 2
    assert [bar.find("title").text for bar in bars][2:] == ["b<, up: 2.5", "b<, down: 0"]


def test_names_are_escaped_and_an_empty_chart_is_a_chart():
    assert "<script>" not in paired_bars("t", {"<script>": [1.0, 2.0]}, ("a", "b"))
    assert re.fullmatch(r"<svg .*</svg>", paired_bars("t", {}, ("a", "b")), re.DOTALL)

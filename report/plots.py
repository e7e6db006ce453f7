"""Plots of the tables' page: bars side by side, and reliability of many approaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as Tree

from markupsafe import Markup

from report.figures import WIDTH, add, ticks

LABELS = 170  # user units left of the bars, for names
EDGE = 40  # right of them, for numbers
BAR, GAP = 9, 8  # height of a bar, and between groups


def paired_bars(title: str, rows: Mapping[str, Sequence[float]], series: Sequence[str]) -> Markup:
    """A group of bars a row, one bar a series, from 0; each bar carries its number and its series' colour `s0`, `s1`.

    Empty `rows` give an empty chart.
    """
    step = BAR * len(series) + GAP
    height = 14 + step * len(rows) + 26
    svg = Tree.Element("svg", {"viewBox": f"0 0 {WIDTH} {height}", "role": "img", "class": "chart bars"})
    add(svg, "title", text=title)
    marks = ticks(0.0, max((value for values in rows.values() for value in values), default=1.0) or 1.0)
    scale = (WIDTH - LABELS - EDGE) / marks[-1]
    for value in marks:
        x = LABELS + value * scale
        add(svg, "line", "grid", x1=x, x2=x, y1=8, y2=height - 24)
        add(svg, "text", "tick middle", text=f"{value:g}", x=x, y=height - 8)
    for at, (name, values) in enumerate(rows.items()):
        top = 14 + at * step
        add(svg, "text", "tick end", text=name, x=LABELS - 8, y=top + BAR * len(series) / 2 + 4)
        for index, value in enumerate(values):
            y = top + index * BAR
            bar = add(svg, "rect", f"fill s{index}", x=LABELS, y=y, width=max(0.0, value * scale), height=BAR - 1)
            add(bar, "title", text=f"{name}, {series[index]}: {value:g}")
            add(svg, "text", "count", text=f"{value:g}", x=LABELS + value * scale + 4, y=y + BAR - 1.5)
    return Markup(Tree.tostring(svg, encoding="unicode"))

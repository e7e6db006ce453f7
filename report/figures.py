"""Figures as SVG. Colors come from the page's style sheet; the XML writer escapes every text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as Tree

from markupsafe import Markup

from report.breakdown import Bin
from report.pages import safe_text

WIDTH, HEIGHT = 460, 280  # user units of a chart; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 44, 16, 18, 40  # margins around the plotted area
KEPT = 30  # approximate width of the label over the best epoch
MARGIN = 0.1  # shown above and below a score that is constant
LABELS, EDGE = 170, 40  # of a bar chart: left of the bars for names, right of them for numbers
BAR, GAP = 9, 8  # of a bar chart: height of a bar, and between groups


class Axes:
    """A chart: its plotted area, grid and labels, and the mapping from data to user units."""

    def __init__(self, title: str, x: tuple[float, float], y: tuple[float, float], height: int = HEIGHT) -> None:
        self.x, self.y, self.height = x, y, height
        self.svg = Tree.Element("svg", {"viewBox": f"0 0 {WIDTH} {height}", "role": "img", "class": "chart"})
        add(self.svg, "title", text=title)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """User units of a point of the data."""
        x_share = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        y_share = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return LEFT + x_share * (WIDTH - LEFT - RIGHT), self.height - BOTTOM - y_share * (self.height - TOP - BOTTOM)

    def grid(self, x_ticks: Sequence[float], y_ticks: Sequence[float], x_name: str, y_name: str) -> None:
        for value in y_ticks:
            y = self.at(self.x[0], value)[1]
            add(self.svg, "line", "grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)
            add(self.svg, "text", "tick end", text=f"{value:g}", x=LEFT - 7, y=y + 4)
        for value in x_ticks:
            x = self.at(value, self.y[0])[0]
            add(self.svg, "text", "tick middle", text=f"{value:g}", x=x, y=self.height - BOTTOM + 16)
        add(self.svg, "text", "axis middle", text=x_name, x=(LEFT + WIDTH - RIGHT) / 2, y=self.height - 6)
        add(self.svg, "text", "axis", text=y_name, x=LEFT + 4, y=TOP + 9)

    def line(self, points: Sequence[tuple[float, float]], name: str, title: str) -> None:
        positions = [self.at(*point) for point in points]
        path = " ".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(positions))
        add(self.svg, "path", f"line {name}", d=path)
        for (x, y), (epoch, value) in zip(positions, points, strict=True):
            dot = add(self.svg, "circle", f"dot {name}", cx=x, cy=y, r=3.2)
            add(dot, "title", text=f"{title} at {epoch:g}: {value:.4g}")

    def markup(self) -> Markup:
        return Markup(Tree.tostring(self.svg, encoding="unicode"))


def add(parent: Tree.Element, name: str, css: str = "", *, text: str = "", **attributes: object) -> Tree.Element:
    """Add a child element; numbers are rounded, text is made safe here and escaped by the writer."""
    texts = {key: f"{value:.2f}" if isinstance(value, float) else str(value) for key, value in attributes.items()}
    child = Tree.SubElement(parent, name, {**({"class": css} if css else {}), **texts})
    child.text = safe_text(text) or None
    return child


def learning_curve(
    curves: Sequence[Mapping[str, Any]], columns: Mapping[str, str], y_name: str, best: float | None = None
) -> Markup | None:
    """A chart of columns (name -> title) over epochs; None if the curves have none of them.

    The axis of a loss starts at 0; that of scores ends at 1 or below. `best` marks an epoch.
    """
    lines = {name: _points(curves, name) for name in columns}
    values = [value for points in lines.values() for _, value in points]
    if not values:
        return None
    epochs = [x for points in lines.values() for x, _ in points]
    y_ticks = ticks(*_range(values, is_score=y_name != "loss"))
    axes = Axes(f"{y_name} by epoch", (min(epochs), max(epochs)), (y_ticks[0], y_ticks[-1]))
    axes.grid(_epoch_ticks(epochs), y_ticks, "epoch", y_name)
    if best is not None and best in epochs:
        (x, low), (_, high) = axes.at(best, y_ticks[0]), axes.at(best, y_ticks[-1])
        add(axes.svg, "line", "best", x1=x, x2=x, y1=low, y2=high)
        at_axis = x < LEFT + KEPT / 2  # centered, it would cover the topmost number of the axis
        add(axes.svg, "text", "tick" if at_axis else "tick middle", text="kept", x=x, y=TOP - 3)
    for index, (name, points) in enumerate(lines.items()):
        axes.line(points, f"s{index}", columns[name])
    return axes.markup()


def reliability_plot(bins: Sequence[Bin]) -> Markup:
    """Accuracy over confidence: a bar with its count for each bin, and the diagonal of perfect calibration."""
    axes = Axes("share of correct predictions by confidence", (0, 1), (0, 1))
    axes.grid([0, 0.2, 0.4, 0.6, 0.8, 1], [0, 0.25, 0.5, 0.75, 1], "confidence", "correct")
    for one in bins:
        if not one.n:
            continue
        (x0, y), (x1, base) = axes.at(one.low, one.accuracy), axes.at(one.high, 0)
        bar = add(axes.svg, "rect", "bar", x=x0 + 1.5, y=y, width=x1 - x0 - 3, height=max(base - y, 1.0))
        title = f"{one.low:.1f} to {one.high:.1f}: {one.n} predictions, mean confidence {one.confidence:.3f}"
        add(bar, "title", text=f"{title}, {one.accuracy:.1%} correct")
        gap = add(axes.svg, "line", "gap", x1=x0 + 1.5, x2=x1 - 1.5, y1=axes.at(0, one.confidence)[1])
        gap.set("y2", gap.attrib["y1"])
        add(axes.svg, "text", "count middle", text=f"{one.n}", x=(x0 + x1) / 2, y=base - 4)
    (x0, y0), (x1, y1) = axes.at(0, 0), axes.at(1, 1)
    add(axes.svg, "line", "diagonal", x1=x0, y1=y0, x2=x1, y2=y1)
    return axes.markup()


def bar(value: float, mark: float | None) -> Markup:
    """A score in 0..1 as a bar, with an optional mark at a second score."""
    svg = Tree.Element(
        "svg", {"viewBox": "0 0 100 10", "preserveAspectRatio": "none", "class": "bar", "aria-hidden": "true"}
    )
    add(svg, "rect", "track", x=0, y=2, width=100, height=6)
    add(svg, "rect", "fill", x=0, y=2, width=100 * _unit(value), height=6)
    if mark is not None:
        add(svg, "rect", "mark", x=min(99.0, 100 * _unit(mark)), y=0, width=1, height=10)
    return Markup(Tree.tostring(svg, encoding="unicode"))


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """At most about `n` round numbers, 1, 2 or 5 times a power of ten apart, that enclose `[low, high]`."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / n))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if span / (factor * power) <= n + 1e-9)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def _points(curves: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    points = [(float(row["epoch"]), float(row[name])) for row in curves if row.get(name) is not None and "epoch" in row]
    return [point for point in points if all(map(math.isfinite, point))]


def _range(values: Sequence[float], *, is_score: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if not is_score:
        return 0.0, high
    return (low, high) if low < high else (max(0.0, low - MARGIN), min(1.0, low + MARGIN))


def _epoch_ticks(epochs: Sequence[float]) -> list[float]:
    distinct = sorted(set(epochs))
    return distinct[:: math.ceil(len(distinct) / 10)]


def _unit(value: float) -> float:
    return min(1.0, max(0.0, float(value)))


def paired_bars(title: str, rows: Mapping[str, Sequence[float]], series: Sequence[str]) -> Markup:
    """A group of bars for each row, one numbered bar for each series, from 0 on; without rows an empty chart."""
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
    for row, (name, values) in enumerate(rows.items()):
        top = 14 + row * step
        add(svg, "text", "tick end", text=name, x=LABELS - 8, y=top + BAR * len(series) / 2 + 4)
        for index, value in enumerate(values):
            y = top + index * BAR
            bar = add(svg, "rect", f"fill s{index}", x=LABELS, y=y, width=max(0.0, value * scale), height=BAR - 1)
            add(bar, "title", text=f"{name}, {series[index]}: {value:g}")
            add(svg, "text", "count", text=f"{value:g}", x=LABELS + value * scale + 4, y=y + BAR - 1.5)
    return Markup(Tree.tostring(svg, encoding="unicode"))

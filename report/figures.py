"""Figures as SVG: positions are computed here, `figures.svg.jinja` draws them, escapes every text and has the style."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from report.breakdown import Bin
from report.pages import environment

WIDTH, HEIGHT = 460, 280  # user units of a chart; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 44, WIDTH - 16, 18, HEIGHT - 40  # edges of the plotted area
AREA = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}
MARGIN = 0.1  # shown above and below a score that is constant
LABELS, EDGE = 170, 40  # of a bar chart: left of the bars for names, right of them for numbers
BAR, GAP = 9, 8  # of a bar chart: height of a bar, and between groups


def draw(macro: str, **values: object) -> Markup:
    return Markup(getattr(environment().get_template("figures.svg.jinja").module, macro)(**values).strip())


class Axes(NamedTuple):
    """The mapping from data to user units of a chart with these ticks."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        x_share = (x - self.x_ticks[0]) / ((self.x_ticks[-1] - self.x_ticks[0]) or 1)
        y_share = (y - self.y_ticks[0]) / ((self.y_ticks[-1] - self.y_ticks[0]) or 1)
        return LEFT + x_share * (RIGHT - LEFT), BOTTOM - y_share * (BOTTOM - TOP)

    def chart(self, title: str, x_name: str, y_name: str, **marks: object) -> Markup:
        """The chart with lines, bars and other marks in user units; at most ten labels on the x axis."""
        step = math.ceil(len(self.x_ticks) / 10)
        x_ticks = [(self.at(x, 0)[0], f"{x:g}") for x in self.x_ticks[::step]]
        y_ticks = [(self.at(0, y)[1], f"{y:g}") for y in self.y_ticks]
        ticks = {"x_ticks": x_ticks, "y_ticks": y_ticks}
        return draw("chart", title=title, x_name=x_name, y_name=y_name, area=AREA, **ticks, **marks)


def learning_curve(
    curves: Sequence[Mapping[str, Any]], columns: Mapping[str, str], y_name: str, best: float | None = None
) -> Markup | None:
    """A chart of columns (name -> title) over epochs, with a mark at `best`; None if the curves have none of them."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for name in columns:
        rows = [row for row in curves if row.get(name) is not None and "epoch" in row]
        points = [(float(row["epoch"]), float(row[name])) for row in rows]
        lines[name] = [point for point in points if all(map(math.isfinite, point))]
    values = [value for points in lines.values() for _, value in points]
    if not values:
        return None
    low, high = (0.0 if y_name == "loss" else min(values)), max(values)
    if low == high and y_name != "loss":
        low, high = max(0.0, low - MARGIN), min(1.0, low + MARGIN)
    axes = Axes(sorted({epoch for points in lines.values() for epoch, _ in points}), ticks(low, high))
    drawn = [
        (columns[name], [(*axes.at(epoch, value), f"{epoch:g}: {value:.4g}") for epoch, value in points])
        for name, points in lines.items()
    ]
    marked = None if best is None or best not in axes.x_ticks else axes.at(best, 0)[0]
    return axes.chart(f"{y_name} by epoch", "epoch", y_name, lines=drawn, best=marked)


def reliability_plot(bins: Sequence[Bin]) -> Markup:
    """Accuracy over confidence: a bar with its count for each bin, and the diagonal of perfect calibration."""
    axes, bars = Axes([0, 0.2, 0.4, 0.6, 0.8, 1], [0, 0.25, 0.5, 0.75, 1]), []
    for each in [each for each in bins if each.n]:
        (left, top), (right, mean) = axes.at(each.low, each.accuracy), axes.at(each.high, each.confidence)
        title = f"{each.low:.1f} to {each.high:.1f}: {each.n} predictions, mean confidence {each.confidence:.3f}"
        place = {"left": left + 1.5, "right": right - 1.5, "top": top, "height": max(BOTTOM - top, 1.0), "mean": mean}
        bars.append({**place, "n": each.n, "title": f"{title}, {each.accuracy:.1%} correct"})
    title = "share of correct predictions by confidence"
    return axes.chart(title, "confidence", "correct", bars=bars, diagonal=True)


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """At most about `n` round numbers, 1, 2 or 5 times a power of ten apart, that enclose `[low, high]`."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / n))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if span / (factor * power) <= n + 1e-9)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def paired_bars(title: str, rows: Mapping[str, Sequence[float]], series: Sequence[str]) -> Markup:
    """A group of bars for each row, one numbered bar for each series, starting at 0; without rows an empty chart."""
    marks = ticks(0.0, max((value for values in rows.values() for value in values), default=1.0) or 1.0)
    step = BAR * len(series) + GAP
    size = {"width": WIDTH, "height": 14 + step * len(rows) + 26, "left": LABELS, "step": step, "bar": BAR}
    scale = (WIDTH - LABELS - EDGE) / marks[-1]
    return draw("grouped_bars", title=title, **size, scale=scale, ticks=marks, rows=rows, series=series)

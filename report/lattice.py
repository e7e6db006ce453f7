"""The lattice of a post as a figure: a column for each position of the text, a bar for each object, head to tail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from xml.etree import ElementTree as Tree

from markupsafe import Markup

from report.figures import add
from report.safe import safe_text, safe_word
from schema.records import Region

ROW, NAMES, CHAR, PAD = 24, 190, 7.4, 12  # user units: a row, the column of names, a character, around a word
SHOWN_CHARS = 18  # of a word or an object's text


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object of the lattice stands: positions of its first and last word; 0 is [CLS], words are 1 to n."""

    region: Region
    head: int
    tail: int


def places(regions: Sequence[Region], n_words: int) -> list[Place]:
    """Positions of objects: those of their phrase, or 1 and n for whole pictures and general words."""
    return [
        Place(region, region.span.head if region.span else 1, region.span.tail if region.span else n_words)
        for region in regions
    ]


def figure(words: Sequence[str], found: Sequence[Place]) -> Markup:
    """Text cells in the first row, then an object a row, its bar over the columns head to tail, both included."""
    cells = ["[CLS]", *(safe_word(word) for word in words), "[SEP]"]
    shown = [safe_text(cell, SHOWN_CHARS) for cell in cells]
    edges = [float(NAMES), *(NAMES + x for x in accumulate(len(cell) * CHAR + PAD for cell in shown))]
    height = ROW * (len(found) + 2) + 6
    size = {"viewBox": f"0 0 {edges[-1] + 4:.0f} {height}", "width": f"{edges[-1] + 4:.0f}", "height": f"{height}"}
    svg = Tree.Element("svg", {**size, "role": "img", "class": "lattice"})
    add(svg, "title", text="objects over the words they stand at")
    for at, cell in enumerate(shown):
        middle = (edges[at] + edges[at + 1]) / 2
        add(svg, "line", "grid", x1=edges[at], x2=edges[at], y1=0, y2=height)
        add(svg, "text", "tick middle", text=f"{at}", x=middle, y=14)
        add(svg, "text", "cell middle", text=cell, x=middle, y=ROW + 12)
    for row, place in enumerate(found, 2):
        _bar(svg, place, row * ROW, edges)
    return Markup(Tree.tostring(svg, encoding="unicode"))


def _bar(svg: Tree.Element, place: Place, y: float, edges: Sequence[float]) -> None:
    name = place.region.text if place.region.source != "image" else "whole picture"
    add(svg, "text", "name", text=safe_text(name, SHOWN_CHARS + 6), x=4, y=y + 16)
    x0, x1 = edges[place.head], edges[place.tail + 1]
    bar = add(svg, "rect", f"bar {place.region.source}", x=x0 + 2, y=y + 4, width=x1 - x0 - 4, height=ROW - 8, rx=4)
    add(bar, "title", text=f"{name}: head {place.head}, tail {place.tail}")

"""The drawn kinds: each is a small image with its own colours, outline and pose, the same at every size.

Coordinates are in units of 0..100 on a square canvas; y grows downwards, as in the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

CANVAS_PX = 128  # side of the canvas that a kind is drawn on, before it is cut to its outline
DETAIL_PX = 30  # longer side that every cut is reduced to: a huge thing shows no more detail than a small one
UNITS = 100.0  # coordinates of a drawing
MARGIN_PX = 14  # room around the units, so that outlines and turned corners stay on the canvas
RGB = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Look:
    """How one thing is drawn. `wobble` in [0, 1) varies proportions, `turn` is in degrees, `flip` mirrors it."""

    fill: RGB
    accent: RGB
    ink: RGB
    ink_width: float  # units; 0 draws no outline
    turn: float
    flip: bool
    wobble: float
    stretch: float  # width over height, relative to the kind's own


class Pen:
    """Draws in units on a transparent canvas with the colours of a look."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.image = Image.new("RGBA", (CANVAS_PX, CANVAS_PX), (*look.fill, 0))
        self._draw = ImageDraw.Draw(self.image)
        self._scale = (CANVAS_PX - 2 * MARGIN_PX) / UNITS

    def _at(self, points: Sequence[Point]) -> list[Point]:
        return [(MARGIN_PX + x * self._scale, MARGIN_PX + y * self._scale) for x, y in points]

    def _width(self, units: float) -> int:
        return round(units * self._scale)

    def shape(self, points: Sequence[Point], colour: RGB | None = None) -> None:
        """A filled polygon with the look's outline."""
        at = self._at(points)
        self._draw.polygon(at, fill=(*(colour or self.look.fill), 255))
        if self.look.ink_width > 0:
            self._draw.line([*at, at[0], at[1]], fill=(*self.look.ink, 255), width=self._width(self.look.ink_width))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: RGB | None = None) -> None:
        """A filled ellipse around (x, y) with the look's outline."""
        box = self._at([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse(
            [*box[0], *box[1]],
            fill=(*(colour or self.look.fill), 255),
            outline=(*self.look.ink, 255) if self.look.ink_width > 0 else None,
            width=self._width(self.look.ink_width),
        )

    def stroke(self, points: Sequence[Point], width: float, colour: RGB | None = None) -> None:
        """An open line of the given width with round ends."""
        at, radius = self._at(points), width * self._scale / 2
        paint = (*(colour or self.look.fill), 255)
        self._draw.line(at, fill=paint, width=self._width(width), joint="curve")
        for x, y in (at[0], at[-1]):
            self._draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=paint)

    def hole(self, x: float, y: float, radius: float) -> None:
        """A round hole through which the background shows."""
        box = self._at([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.ellipse([*box[0], *box[1]], fill=(*self.look.ink, 0))


def _figure(pen: Pen, wobble: float) -> None:
    lift = 20 * wobble  # arms from hanging to raised
    pen.stroke([(50, 62), (32, 100)], 13, pen.look.accent)
    pen.stroke([(50, 62), (68, 100)], 13, pen.look.accent)
    pen.stroke([(22, 58 - lift), (50, 40), (78, 58 - lift)], 11)
    pen.shape([(38, 36), (62, 36), (60, 70), (40, 70)])
    pen.oval(50, 16, 15, 16)


def _face(pen: Pen, wobble: float) -> None:
    pen.oval(50, 50, 46, 48)
    pen.oval(33, 38, 8, 10 + 2 * wobble, pen.look.accent)
    pen.oval(67, 38, 8, 10 + 2 * wobble, pen.look.accent)
    pen.stroke(
        [(27, 66), (38, 76 + 3 * wobble), (50, 79 + 4 * wobble), (62, 76 + 3 * wobble), (73, 66)], 8, pen.look.accent
    )


def _crown(pen: Pen, wobble: float) -> None:
    tip = 12 * wobble
    pen.shape([(4, 24 - tip), (27, 52), (50, 12), (73, 52), (96, 24 - tip), (88, 88), (12, 88)])
    pen.stroke([(18, 78), (82, 78)], 9, pen.look.accent)


def _shirt(pen: Pen, wobble: float) -> None:
    hem = 92 + 6 * wobble
    pen.shape([(34, 8), (66, 8), (98, 28), (88, 52), (73, 44), (73, hem), (27, hem), (27, 44), (12, 52), (2, 28)])
    pen.shape([(38, 8), (62, 8), (50, 26)], pen.look.accent)


def _house(pen: Pen, wobble: float) -> None:
    roof = 6 + 10 * wobble
    pen.shape([(14, 46), (86, 46), (86, 98), (14, 98)])
    pen.shape([(2, 48), (50, roof), (98, 48)], pen.look.accent)
    pen.shape([(42, 66), (60, 66), (60, 98), (42, 98)], pen.look.accent)


def _tree(pen: Pen, wobble: float) -> None:
    pen.shape([(43, 60), (57, 60), (60, 100), (40, 100)], pen.look.accent)
    pen.oval(30, 48, 24, 22)
    pen.oval(70, 48, 24, 22)
    pen.oval(50, 28, 26 + 5 * wobble, 26)
    pen.stroke([(36, 46), (64, 46)], 26)


def _mountain(pen: Pen, wobble: float) -> None:
    near = 34 + 10 * wobble
    pen.shape([(30, 92), (70, near), (100, 92)])
    pen.shape([(0, 92), (40, 10), (80, 92)])
    pen.shape([(40, 10), (54, 39), (46, 34), (39, 42), (33, 33), (26, 39)], pen.look.accent)


def _boat(pen: Pen, wobble: float) -> None:
    pen.stroke([(48, 8), (48, 72)], 6, pen.look.ink)
    pen.shape([(54, 6), (54, 62), (90 - 8 * wobble, 62)], pen.look.accent)
    pen.shape([(42, 18), (42, 62), (16, 62)], pen.look.accent)
    pen.shape([(2, 70), (98, 70), (80, 96), (20, 96)])


def _flag(pen: Pen, wobble: float) -> None:
    dip = 8 * wobble
    pen.stroke([(12, 4), (12, 98)], 9, pen.look.ink)
    pen.shape([(16, 6), (56, 6 + dip), (96, 6), (96, 56), (56, 56 + dip), (16, 56)])
    pen.stroke([(20, 31), (56, 31 + dip), (92, 31)], 14, pen.look.accent)


def _shield(pen: Pen, wobble: float) -> None:
    belly = 62 + 6 * wobble
    pen.shape([(10, 8), (50, 2), (90, 8), (88, belly), (50, 99), (12, belly)])
    pen.stroke([(50, 18), (50, 80)], 12, pen.look.accent)
    pen.stroke([(24, 44), (76, 44)], 12, pen.look.accent)


def _gear(pen: Pen, wobble: float) -> None:
    n_teeth = 8
    points = []
    for index in range(4 * n_teeth):
        angle = 2 * math.pi * (index + 0.5) / (4 * n_teeth)
        radius = 49 if index % 4 < 2 else 35 + 2 * wobble
        points.append((50 + radius * math.cos(angle), 50 + radius * math.sin(angle)))
    pen.shape(points)
    pen.hole(50, 50, 15 + 3 * wobble)


def _bell(pen: Pen, wobble: float) -> None:
    pen.oval(50, 88, 12, 11, pen.look.accent)
    pen.shape([(50, 2), (66, 8), (74, 24), (78, 58), (94, 80), (6, 80), (22, 58), (26, 24), (34, 8)])
    pen.stroke([(25, 62 - 8 * wobble), (75, 62 - 8 * wobble)], 8, pen.look.accent)


def _cup(pen: Pen, wobble: float) -> None:
    pen.stroke([(68, 34), (90, 36), (94, 54), (84, 70), (66, 72)], 10)
    pen.shape([(8, 18), (74, 18), (66 - 6 * wobble, 96), (16 + 6 * wobble, 96)])
    pen.oval(41, 18, 33, 11, pen.look.accent)


def _fish(pen: Pen, wobble: float) -> None:
    pen.shape([(66, 50), (98, 18 + 8 * wobble), (90, 50), (98, 82 - 8 * wobble)], pen.look.accent)
    pen.oval(40, 50, 38, 29)
    pen.oval(20, 42, 7, 7, pen.look.ink)
    pen.stroke([(44, 32), (52, 50), (44, 68)], 6, pen.look.accent)


def _star(pen: Pen, wobble: float) -> None:
    points = []
    for index in range(10):
        angle = math.pi * (index / 5 - 0.5)
        radius = 50 if index % 2 == 0 else 19 + 5 * wobble
        points.append((50 + radius * math.cos(angle), 52 + radius * math.sin(angle)))
    pen.shape(points)


def _key(pen: Pen, wobble: float) -> None:
    pen.stroke([(50, 44), (50, 96)], 13)
    pen.stroke([(50, 74), (74 + 4 * wobble, 74)], 11)
    pen.stroke([(50, 93), (78, 93)], 11)
    pen.oval(50, 25, 27, 25)
    pen.hole(50, 25, 12)


_DRAWERS: dict[str, Callable[[Pen, float], None]] = {
    "figure": _figure,
    "face": _face,
    "crown": _crown,
    "shirt": _shirt,
    "house": _house,
    "tree": _tree,
    "mountain": _mountain,
    "boat": _boat,
    "flag": _flag,
    "shield": _shield,
    "gear": _gear,
    "bell": _bell,
    "cup": _cup,
    "fish": _fish,
    "star": _star,
    "key": _key,
}
KINDS: tuple[str, ...] = tuple(_DRAWERS)


def sprite(kind: str, look: Look) -> Image.Image:
    """RGBA image of a thing, cut to what is drawn, longer side DETAIL_PX whatever size it will have in a scene."""
    pen = Pen(look)
    _DRAWERS[kind](pen, look.wobble)
    drawn = pen.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if look.flip else pen.image
    turned = drawn.rotate(look.turn, Image.Resampling.BICUBIC)
    alpha = turned.getchannel("A").point(lambda value: 255 if value >= 128 else 0)
    cut = turned.crop(alpha.getbbox())
    width, height = cut.width * look.stretch, float(cut.height)
    shrink = DETAIL_PX / max(width, height)
    small = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return cut.resize(small, Image.Resampling.BOX)

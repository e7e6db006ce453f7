"""The kinds of drawn things: each is a small image with its own colours, outline and pose, the same at every size.

Coordinates are in units of 0..100 on a square canvas; y grows downwards, as in the image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

CANVAS_PX = 128  # side of the canvas on which a thing is drawn, before it is cropped to its outline
DETAIL_PX = 30  # longer side of every cropped drawing: a huge thing shows no more detail than a small one
UNITS = 100.0  # coordinates of a drawing
MARGIN_PX = 14  # around the units, so that outlines and turned corners stay on the canvas
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
        self.look, self.accent = look, look.accent
        self.image = Image.new("RGBA", (CANVAS_PX, CANVAS_PX), (*look.fill, 0))
        self._draw = ImageDraw.Draw(self.image)
        self._scale = (CANVAS_PX - 2 * MARGIN_PX) / UNITS
        self._outline = (*look.ink, 255) if look.ink_width > 0 else None
        self._outline_px = round(look.ink_width * self._scale)

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        return [(MARGIN_PX + x * self._scale, MARGIN_PX + y * self._scale) for x, y in points]

    def shape(self, points: Sequence[Point], colour: RGB | None = None) -> None:
        """A filled polygon with the look's outline."""
        corners = self._pixels(points)
        self._draw.polygon(corners, fill=(*(colour or self.look.fill), 255))
        if self._outline:
            self._draw.line([*corners, corners[0], corners[1]], fill=self._outline, width=self._outline_px)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: RGB | None = None) -> None:
        """A filled ellipse around (x, y) with the look's outline."""
        box, fill = self._pixels([(x - rx, y - ry), (x + rx, y + ry)]), (*(colour or self.look.fill), 255)
        self._draw.ellipse([*box[0], *box[1]], fill=fill, outline=self._outline, width=self._outline_px)

    def stroke(self, points: Sequence[Point], width: float, colour: RGB | None = None) -> None:
        """An open line of the given width with round ends."""
        line, radius = self._pixels(points), width * self._scale / 2
        fill = (*(colour or self.look.fill), 255)
        self._draw.line(line, fill=fill, width=round(width * self._scale), joint="curve")
        for x, y in (line[0], line[-1]):
            self._draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)

    def hole(self, x: float, y: float, radius: float) -> None:
        """A round hole through which the background shows."""
        box = self._pixels([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.ellipse([*box[0], *box[1]], fill=(*self.look.ink, 0))


class Drawings(Pen):
    """The drawing of each kind; `wobble` in [0, 1) varies its proportions."""

    def figure(self, wobble: float) -> None:
        lift = 20 * wobble  # arms from hanging to raised
        self.stroke([(50, 62), (32, 100)], 13, self.accent)
        self.stroke([(50, 62), (68, 100)], 13, self.accent)
        self.stroke([(22, 58 - lift), (50, 40), (78, 58 - lift)], 11)
        self.shape([(38, 36), (62, 36), (60, 70), (40, 70)])
        self.oval(50, 16, 15, 16)

    def face(self, wobble: float) -> None:
        self.oval(50, 50, 46, 48)
        self.oval(33, 38, 8, 10 + 2 * wobble, self.accent)
        self.oval(67, 38, 8, 10 + 2 * wobble, self.accent)
        smile = [(27, 66), (38, 76 + 3 * wobble), (50, 79 + 4 * wobble), (62, 76 + 3 * wobble), (73, 66)]
        self.stroke(smile, 8, self.accent)

    def crown(self, wobble: float) -> None:
        tip = 12 * wobble
        self.shape([(4, 24 - tip), (27, 52), (50, 12), (73, 52), (96, 24 - tip), (88, 88), (12, 88)])
        self.stroke([(18, 78), (82, 78)], 9, self.accent)

    def shirt(self, wobble: float) -> None:
        hem = 92 + 6 * wobble
        self.shape([(34, 8), (66, 8), (98, 28), (88, 52), (73, 44), (73, hem), (27, hem), (27, 44), (12, 52), (2, 28)])
        self.shape([(38, 8), (62, 8), (50, 26)], self.accent)

    def house(self, wobble: float) -> None:
        roof = 6 + 10 * wobble
        self.shape([(14, 46), (86, 46), (86, 98), (14, 98)])
        self.shape([(2, 48), (50, roof), (98, 48)], self.accent)
        self.shape([(42, 66), (60, 66), (60, 98), (42, 98)], self.accent)

    def tree(self, wobble: float) -> None:
        self.shape([(43, 60), (57, 60), (60, 100), (40, 100)], self.accent)
        self.oval(30, 48, 24, 22)
        self.oval(70, 48, 24, 22)
        self.oval(50, 28, 26 + 5 * wobble, 26)
        self.stroke([(36, 46), (64, 46)], 26)

    def mountain(self, wobble: float) -> None:
        near = 34 + 10 * wobble
        self.shape([(30, 92), (70, near), (100, 92)])
        self.shape([(0, 92), (40, 10), (80, 92)])
        self.shape([(40, 10), (54, 39), (46, 34), (39, 42), (33, 33), (26, 39)], self.accent)

    def boat(self, wobble: float) -> None:
        self.stroke([(48, 8), (48, 72)], 6, self.look.ink)
        self.shape([(54, 6), (54, 62), (90 - 8 * wobble, 62)], self.accent)
        self.shape([(42, 18), (42, 62), (16, 62)], self.accent)
        self.shape([(2, 70), (98, 70), (80, 96), (20, 96)])

    def flag(self, wobble: float) -> None:
        dip = 8 * wobble
        self.stroke([(12, 4), (12, 98)], 9, self.look.ink)
        self.shape([(16, 6), (56, 6 + dip), (96, 6), (96, 56), (56, 56 + dip), (16, 56)])
        self.stroke([(20, 31), (56, 31 + dip), (92, 31)], 14, self.accent)

    def shield(self, wobble: float) -> None:
        belly = 62 + 6 * wobble
        self.shape([(10, 8), (50, 2), (90, 8), (88, belly), (50, 99), (12, belly)])
        self.stroke([(50, 18), (50, 80)], 12, self.accent)
        self.stroke([(24, 44), (76, 44)], 12, self.accent)

    def gear(self, wobble: float) -> None:
        points = []
        for index in range(32):  # four a tooth
            angle = 2 * math.pi * (index + 0.5) / 32
            radius = 49 if index % 4 < 2 else 35 + 2 * wobble
            points.append((50 + radius * math.cos(angle), 50 + radius * math.sin(angle)))
        self.shape(points)
        self.hole(50, 50, 15 + 3 * wobble)

    def bell(self, wobble: float) -> None:
        self.oval(50, 88, 12, 11, self.accent)
        self.shape([(50, 2), (66, 8), (74, 24), (78, 58), (94, 80), (6, 80), (22, 58), (26, 24), (34, 8)])
        self.stroke([(25, 62 - 8 * wobble), (75, 62 - 8 * wobble)], 8, self.accent)

    def cup(self, wobble: float) -> None:
        self.stroke([(68, 34), (90, 36), (94, 54), (84, 70), (66, 72)], 10)
        self.shape([(8, 18), (74, 18), (66 - 6 * wobble, 96), (16 + 6 * wobble, 96)])
        self.oval(41, 18, 33, 11, self.accent)

    def fish(self, wobble: float) -> None:
        self.shape([(66, 50), (98, 18 + 8 * wobble), (90, 50), (98, 82 - 8 * wobble)], self.accent)
        self.oval(40, 50, 38, 29)
        self.oval(20, 42, 7, 7, self.look.ink)
        self.stroke([(44, 32), (52, 50), (44, 68)], 6, self.accent)

    def star(self, wobble: float) -> None:
        points = []
        for index in range(10):
            angle = math.pi * (index / 5 - 0.5)
            radius = 50 if index % 2 == 0 else 19 + 5 * wobble
            points.append((50 + radius * math.cos(angle), 52 + radius * math.sin(angle)))
        self.shape(points)

    def key(self, wobble: float) -> None:
        self.stroke([(50, 44), (50, 96)], 13)
        self.stroke([(50, 74), (74 + 4 * wobble, 74)], 11)
        self.stroke([(50, 93), (78, 93)], 11)
        self.oval(50, 25, 27, 25)
        self.hole(50, 25, 12)


KINDS = tuple(name for name in vars(Drawings) if not name.startswith("_"))


def sprite(kind: str, look: Look) -> Image.Image:
    """RGBA image of a thing, cropped to its outline; its longer side is DETAIL_PX whatever its size in a scene."""
    pen = Drawings(look)
    getattr(pen, kind)(look.wobble)
    drawn = pen.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if look.flip else pen.image
    turned = drawn.rotate(look.turn, Image.Resampling.BICUBIC)
    alpha = turned.getchannel("A").point(lambda value: 255 if value >= 128 else 0)
    cut = turned.crop(alpha.getbbox())
    width, height = cut.width * look.stretch, float(cut.height)
    shrink = DETAIL_PX / max(width, height)
    small = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return cut.resize(small, Image.Resampling.BOX)

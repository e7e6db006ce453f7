"""The kinds of drawn objects: each is a small image with its own colors, outline and pose, the same at every size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

CANVAS_PX = 128  # side of the canvas on which an object is drawn, before it is cropped to its outline
DETAIL_PX = 30  # longer side of every cropped drawing: a huge object shows no more detail than a small one
MARGIN_PX = 14  # around the units, so that outlines and turned corners stay on the canvas
SCALE = (CANVAS_PX - 2 * MARGIN_PX) / 100  # pixels per unit: drawings have coordinates of 0..100
DRAWINGS = yaml.safe_load(Path(__file__).with_name("shapes.yaml").read_text(encoding="utf-8"))
KINDS = tuple(DRAWINGS)
RGB = tuple[int, int, int]
Point = Sequence[float]


@dataclass(frozen=True, slots=True)
class Look:
    """How one object is drawn. `wobble` in [0, 1) varies proportions, `turn` is in degrees, `flip` mirrors it."""

    fill: RGB
    accent: RGB
    ink: RGB
    ink_width: float  # units; 0 draws no outline
    turn: float
    flip: bool
    wobble: float
    stretch: float  # width over height, relative to the kind's own


class Pen:
    """Draws in units on a transparent canvas with the colors of a look."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.image = Image.new("RGBA", (CANVAS_PX, CANVAS_PX), (*look.fill, 0))
        self._draw = ImageDraw.Draw(self.image)
        self._outline = (*look.ink, 255) if look.ink_width > 0 else None
        self._outline_px = round(look.ink_width * SCALE)

    def _pixels(self, *points: Point) -> list[tuple[float, float]]:
        return [(MARGIN_PX + x * SCALE, MARGIN_PX + y * SCALE) for x, y in points]

    def shape(self, points: Sequence[Point], colour: str = "fill") -> None:
        """A polygon with the look's outline."""
        corners = self._pixels(*points)
        self._draw.polygon(corners, fill=(*getattr(self.look, colour), 255))
        if self._outline:
            self._draw.line([*corners, corners[0], corners[1]], fill=self._outline, width=self._outline_px)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: str = "fill") -> None:
        """An ellipse around (x, y) with the look's outline."""
        low, high = self._pixels((x - rx, y - ry), (x + rx, y + ry))
        fill = (*getattr(self.look, colour), 255)
        self._draw.ellipse([*low, *high], fill=fill, outline=self._outline, width=self._outline_px)

    def stroke(self, points: Sequence[Point], width: float, colour: str = "fill") -> None:
        """An open line with round ends."""
        line, radius = self._pixels(*points), width * SCALE / 2
        fill = (*getattr(self.look, colour), 255)
        self._draw.line(line, fill=fill, width=round(width * SCALE), joint="curve")
        for x, y in (line[0], line[-1]):
            self._draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)

    def hole(self, x: float, y: float, radius: float) -> None:
        """A round hole through which the background shows."""
        low, high = self._pixels((x - radius, y - radius), (x + radius, y + radius))
        self._draw.ellipse([*low, *high], fill=(*self.look.ink, 0))

    def wheel(self, x: float, y: float, radii: list[float], n_teeth: int, turned: float) -> None:
        """A polygon around (x, y) of equal teeth, turned clockwise by `turned` corners."""
        step = 2 * math.pi / (n_teeth * len(radii))
        angles = [step * (index + turned) for index in range(n_teeth * len(radii))]
        corners = zip(radii * n_teeth, angles, strict=True)
        self.shape([(x + radius * math.cos(angle), y + radius * math.sin(angle)) for radius, angle in corners])


def sprite(kind: str, look: Look) -> Image.Image:
    """RGBA image of an object, cropped to its outline; its longer side is DETAIL_PX whatever its size in a scene."""
    pen = Pen(look)
    for part, *arguments in DRAWINGS[kind]:
        getattr(pen, part)(*(_evaluated(value, look.wobble) for value in arguments))
    drawn = pen.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if look.flip else pen.image
    turned = drawn.rotate(look.turn, Image.Resampling.BICUBIC)
    alpha = turned.getchannel("A").point(lambda value: 255 if value >= 128 else 0)
    cut = turned.crop(alpha.getbbox())
    width, height = cut.width * look.stretch, float(cut.height)
    shrink = DETAIL_PX / max(width, height)
    small = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return cut.resize(small, Image.Resampling.BOX)


def _evaluated(value: Any, wobble: float) -> Any:
    """A value of `shapes.yaml` with its numbers for this wobble."""
    if isinstance(value, list):
        return [_evaluated(inner, wobble) for inner in value]
    if isinstance(value, str) and value.endswith("w"):
        start, sign, change = value[:-1].split()
        return float(start) + float(sign + change) * wobble
    return value

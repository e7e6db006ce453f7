"""Small copies of pictures for pages, within a budget of bytes, and boxes drawn into pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import PIL.Image
import PIL.ImageDraw

from schema.errors import ImageError

Loader = Callable[[str, str], PIL.Image.Image | None]  # (name, sha256 of the file) -> decoded RGB, None: not to be had
Colour = tuple[int, int, int]

STEPS = ((560, 82), (420, 80), (320, 78), (240, 74), (180, 68), (132, 60))  # (longer side in px, JPEG quality)
PICTURE_BUDGET = 13_000_000  # bytes of data URIs on a page


@dataclass
class Album:
    """Thumbnails of a page as data URIs, one for each distinct picture; `n_left_out` had no room or did not load."""

    load: Loader
    n_expected: int
    budget: int = PICTURE_BUDGET
    uris: list[str] = field(default_factory=list)
    n_left_out: int = 0
    _places: dict[tuple[str, str], int | None] = field(default_factory=dict)
    _spent: int = 0

    def place(self, name: str, digest: str) -> int | None:
        """Index in `uris` of the picture's thumbnail, made at the first call; None where there is none."""
        key = (name, digest) if not digest else ("", digest)
        if key not in self._places:
            self._places[key] = self._add(name, digest)
        return self._places[key]

    def _add(self, name: str, digest: str) -> int | None:
        share = (self.budget - self._spent) // max(1, self.n_expected - len(self._places))
        uri = None
        if share > 0 and (image := load_or_none(self.load, name, digest)) is not None:
            uri = data_uri(image, share)
        if uri is None:
            self.n_left_out += 1
            return None
        self._spent += len(uri)
        self.uris.append(uri)
        return len(self.uris) - 1


def data_uri(image: PIL.Image.Image, max_bytes: int) -> str | None:
    """The largest thumbnail of `STEPS` whose data URI has at most `max_bytes`; None if even the smallest has more.

    The file holds pixels alone: no EXIF, place, comment or profile of the original.
    """
    for side, quality in STEPS:
        small = shrunk(image, side)
        file = io.BytesIO()
        small.save(file, "JPEG", quality=quality, optimize=True)
        uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
        if len(uri) <= max_bytes:
            return uri
    return None


def shrunk(image: PIL.Image.Image, side: int) -> PIL.Image.Image:
    """A copy in RGB whose longer side has at most `side` pixels, without anything but pixels."""
    scale = min(1.0, side / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    copy = PIL.Image.new("RGB", size)
    copy.paste(image.convert("RGB").resize(size, PIL.Image.Resampling.LANCZOS))
    return copy


def scaled(xyxy: Sequence[int], size: tuple[int, int], drawn: tuple[int, int]) -> tuple[int, int, int, int]:
    """A half-open box of a picture of `size` (width, height) on its copy of size `drawn`, at least one pixel wide."""
    x0, x1 = (round(xyxy[at] * drawn[0] / size[0]) for at in (0, 2))
    y0, y1 = (round(xyxy[at] * drawn[1] / size[1]) for at in (1, 3))
    x0, y0 = min(x0, drawn[0] - 1), min(y0, drawn[1] - 1)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def with_boxes(
    image: PIL.Image.Image, boxes: Iterable[tuple[Sequence[int], Colour]], side: int, line_px: int = 2
) -> PIL.Image.Image:
    """A copy of at most `side` pixels with the boxes' edges drawn on the inside: their pixels belong to the box."""
    copy = shrunk(image, side)
    pen = PIL.ImageDraw.Draw(copy)
    for xyxy, colour in boxes:
        x0, y0, x1, y1 = scaled(xyxy, image.size, copy.size)
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=line_px)
    return copy


def load_or_none(load: Loader, name: str, digest: str) -> PIL.Image.Image | None:
    """The picture, or None where it cannot be had now; a caller shows or counts that."""
    try:
        return load(name, digest)
    except ImageError:  # changed or gone since it was ingested
        return None

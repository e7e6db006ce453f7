"""Small copies of images for pages, within a byte budget, and boxes drawn into images."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import PIL.Image
import PIL.ImageDraw

from schema.errors import ImageError

Loader = Callable[[str, str], PIL.Image.Image | None]  # (name, sha256 of the file) -> decoded RGB; None: not available
Color = tuple[int, int, int]

STEPS = ((560, 82), (420, 80), (320, 78), (240, 74), (180, 68), (132, 60))  # (longer side in px, JPEG quality)
IMAGE_BUDGET = 13_000_000  # bytes of data URIs on a page


@dataclass
class Thumbnails:
    """Thumbnails of a page as data URIs, one for each distinct image.

    `n_left_out` images exceeded the budget or could not be loaded.
    """

    load: Loader
    n_expected: int
    budget: int = IMAGE_BUDGET
    uris: list[str] = field(default_factory=list)
    n_left_out: int = 0
    _indices: dict[str, int | None] = field(default_factory=dict)  # of digests; of names where there is no digest

    def index(self, name: str, digest: str) -> int | None:
        """Index in `uris` of the image's thumbnail, made on the first call; None if there is none."""
        key = digest or name
        if key not in self._indices:
            self._indices[key] = self._add(name, digest)
        return self._indices[key]

    def _add(self, name: str, digest: str) -> int | None:
        share = self.budget // max(1, self.n_expected - len(self._indices))
        image = load_or_none(self.load, name, digest) if share > 0 else None
        uri = None if image is None else data_uri(image, share)
        if uri is None:
            self.n_left_out += 1
            return None
        self.budget -= len(uri)
        self.uris.append(uri)
        return len(self.uris) - 1


def data_uri(image: PIL.Image.Image, max_bytes: int) -> str | None:
    """The largest thumbnail of `STEPS` whose data URI has at most `max_bytes`; None if even the smallest has more.

    It holds pixels only: no EXIF data, location, comment or profile of the original.
    """
    for side, quality in STEPS:
        file = io.BytesIO()
        shrunk(image, side).save(file, "JPEG", quality=quality, optimize=True)
        uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
        if len(uri) <= max_bytes:
            return uri
    return None


def shrunk(image: PIL.Image.Image, side: int) -> PIL.Image.Image:
    """An RGB copy whose longer side has at most `side` pixels, without metadata."""
    scale = min(1.0, side / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    copy = PIL.Image.new("RGB", size)
    copy.paste(image.convert("RGB").resize(size, PIL.Image.Resampling.LANCZOS))
    return copy


def scaled(xyxy: Sequence[int], size: tuple[int, int], new_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A half-open box of an image of `size` (width, height) on its copy of `new_size`, at least one pixel wide."""
    x0, x1 = (round(xyxy[side] * new_size[0] / size[0]) for side in (0, 2))
    y0, y1 = (round(xyxy[side] * new_size[1] / size[1]) for side in (1, 3))
    x0, y0 = min(x0, new_size[0] - 1), min(y0, new_size[1] - 1)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def with_boxes(
    image: PIL.Image.Image, boxes: Iterable[tuple[Sequence[int], Color]], side: int, line_px: int = 2
) -> PIL.Image.Image:
    """A copy of at most `side` pixels with boxes; a box's outline is drawn on pixels that belong to the box."""
    copy = shrunk(image, side)
    draw = PIL.ImageDraw.Draw(copy)
    for xyxy, color in boxes:
        x0, y0, x1, y1 = scaled(xyxy, image.size, copy.size)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=color, width=line_px)
    return copy


def load_or_none(load: Loader, name: str, digest: str) -> PIL.Image.Image | None:
    """The image, or None if it cannot be loaded; the caller shows or counts that."""
    try:
        return load(name, digest)
    except ImageError:  # changed or removed since ingest
        return None

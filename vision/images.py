"""Untrusted images: few formats, capped in bytes and pixels, decoded completely; every failure has a reason."""

import contextlib
import errno
import hashlib
import io
import os
import stat
import struct
import warnings
import zlib
from pathlib import Path, PurePosixPath

import PIL.Image
import PIL.ImageOps
from PIL.ExifTags import Base

from schema import records
from schema.errors import ImageError

VERSION = "1"  # of the pixels that `decode` gives; part of every key that pixels enter
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")  # Pillow sniffs magic bytes: a .jpg could otherwise run its EPS plugin
MAX_BYTES = 32 * 2**20  # of a file
MAX_PIXELS = 50_000_000
MAX_SIDE_PX = 16_384
MAX_SCANS = 100  # of a progressive JPEG: thousands of empty ones occupy a decoder for hours; real files have ten
ORIENTATION = Base.Orientation  # EXIF tag
BACKGROUND = (255, 255, 255)  # behind transparent pixels; browsers show posts on white
DRAWN_KEY = "fmit-drawn"  # text chunk of the PNGs that synthetic.scenes draws
EMPTY = PIL.Image.new("RGB", (224, 224), (128, 128, 128))  # replaces a missing image
EMPTY_DIGEST = hashlib.sha256(b"fmit empty image 1: 224 x 224 of (128, 128, 128)").hexdigest()

_DAMAGE = (  # what Pillow's decoders of these formats raise on damaged bytes (its own tests and our fuzz test)
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, OverflowError,
    NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
_BOMBS = (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning)
_REFUSED_FORMATS = {  # by their first bytes, so that the reason can name them
    b"%!ps": "PostScript", b"\xc5\xd0\xd3\xc6": "PostScript", b"%pdf": "PDF", b"ii*\0": "TIFF", b"mm\0*": "TIFF",
    b"<svg": "SVG", b"<?xml": "XML or SVG", b"\0\0\x01\0": "ICO",
}  # fmt: skip
_READ_FORMATS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")  # first bytes of the formats that are read

warnings.filterwarnings("error", category=PIL.Image.DecompressionBombWarning)  # catch_warnings is not thread-safe


def probe(folder: Path, name: str) -> records.Image:
    """The record of a post's image, which is decoded completely before its state is ok.

    Bad images do not raise: `state` is missing, broken or refused and `reason` says why. The digest is "" for a file
    that was not read: missing, not a regular file, over MAX_BYTES.
    """
    digest = ""
    try:
        data = _read(folder, name)
        digest = hashlib.sha256(data).hexdigest()
        image = decode(data, name)
    except ImageError as error:
        reason = error.what + (f" ({error.found})" if error.found else "")
        return records.Image(name, digest, state=error.state, reason=reason)  # type: ignore[arg-type]
    return records.Image(name, digest, image.width, image.height, synthetic=DRAWN_KEY in image.info)


def load(folder: Path, image: records.Image) -> PIL.Image.Image:
    """The image of an ok record, RGB and upright; raises ImageError where the file has changed since ingest."""
    try:
        data = _read(folder, image.name)
    except ImageError as error:
        todo = "put the image back, or run the ingest stage again"
        what = f"{error.what}, but ingest could read it"
        raise ImageError(what, state=error.state, where=image.name, found=error.found, todo=todo) from None
    if hashlib.sha256(data).hexdigest() != image.digest:
        what, todo = "the image changed since ingest", "run the ingest stage again"
        raise ImageError(what, state="broken", where=image.name, todo=todo)
    return decode(data, image.name)


def decode(data: bytes, where: str) -> PIL.Image.Image:
    """Bytes of a JPEG, PNG, GIF, WebP (first frame) or BMP as an RGB image, rotated by its EXIF orientation.

    Transparent pixels are blended with BACKGROUND, 16-bit gray keeps its high byte; color profiles are ignored. Raises
    ImageError with state broken (cannot be decoded) or refused (another format, too large, a bomb).
    """
    _refuse_early(data, where)
    try:
        with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _refuse_size(image, data, where)
            image.load()
            rgb = _to_rgb(image)
            rgb.info = {key: value for key, value in image.info.items() if key == DRAWN_KEY}
            with contextlib.suppress(*_DAMAGE):  # an image whose EXIF is damaged stays as it is, as in viewers
                rgb.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
                PIL.ImageOps.exif_transpose(rgb, in_place=True)
            return rgb
    except _BOMBS as error:
        raise _refused("decompression bomb", where, str(error)) from None
    except PIL.UnidentifiedImageError:
        if data.startswith(_READ_FORMATS):
            raise _broken("damaged image: its header is incomplete", where) from None
        found = f"it starts with {data[:12]!r}"
        raise _broken("not recognised as JPEG, PNG, GIF, WebP or BMP", where, found) from None
    except _DAMAGE as error:
        raise _broken("damaged image", where, f"{type(error).__name__}: {error}"[:200]) from None


def _refuse_early(data: bytes, where: str) -> None:
    if not data:
        raise _broken("empty file", where)
    if len(data) > MAX_BYTES:
        raise _refused(f"over {MAX_BYTES} bytes", where, str(len(data)))
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        raise _broken("an HTML page, not an image", where)
    for magic, name in _REFUSED_FORMATS.items():
        if head.startswith(magic):
            raise _refused(f"{name} is not read", where)
    if data[4:8] == b"ftyp":
        raise _refused("HEIF, AVIF or video is not read", where)


def _refuse_size(image: PIL.Image.Image, data: bytes, where: str) -> None:
    size = f"{image.width} x {image.height}"
    if image.width * image.height > MAX_PIXELS:
        raise _refused(f"over {MAX_PIXELS} pixels", where, size)
    if max(image.size) > MAX_SIDE_PX:
        raise _refused(f"a side over {MAX_SIDE_PX} pixels", where, size)
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS:
        raise _refused(f"over {MAX_SCANS} JPEG scans", where)


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode.startswith("I"):  # Pillow's own conversion would clip 16 bits at 255
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        image.info.pop("transparency", None)  # counted in 16 bits, where `convert` reads 8
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # a copy costs as much as a small resize
    layer = image.convert("RGBA")
    canvas = PIL.Image.new("RGB", layer.size, BACKGROUND)
    canvas.paste(layer, mask=layer.getchannel("A"))
    return canvas


def _read(folder: Path, name: str) -> bytes:
    """At most MAX_BYTES of a regular file of the folder. Raises ImageError; a pipe or device never blocks."""
    path = _inside(folder, name)
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise _refused("not a regular file", name)
            if status.st_size > MAX_BYTES:
                raise _refused(f"over {MAX_BYTES} bytes", name, str(status.st_size))
            with os.fdopen(handle, "rb", closefd=False) as file:
                return file.read(MAX_BYTES + 1)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise ImageError("no such file", state="missing", where=name) from None
        if error.errno == errno.ELOOP:
            raise _refused("a loop of links", name) from None
        if error.errno in (errno.EISDIR, errno.ENXIO):
            raise _refused("not a regular file", name) from None
        raise _broken("unreadable file", name, error.strerror or type(error).__name__) from None


def _inside(folder: Path, name: str) -> Path:
    """Path of an image. The name comes from the data and may not leave the folder; the owner's links are followed."""
    parts = PurePosixPath(name)
    if not name or "\0" in name:
        raise _refused("an empty name, or a NUL character in it", name)
    if "\\" in name:
        raise _refused("a backslash in the name: separate folders by /", name)
    if parts.is_absolute() or ".." in parts.parts:
        raise _refused("the name leaves the image folder", name)
    if not name.isascii() and name != name.encode(errors="replace").decode():
        raise _refused("the name is not valid Unicode", repr(name))
    return folder / name


def _broken(what: str, where: str, found: str = "") -> ImageError:
    return ImageError(what, state="broken", where=where, found=found)


def _refused(what: str, where: str, found: str = "") -> ImageError:
    return ImageError(what, state="refused", where=where, found=found)

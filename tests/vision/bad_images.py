"""Images as they come from strangers: each name with the state and the reason it must get."""

from __future__ import annotations

import functools
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
from PIL.PngImagePlugin import PngInfo

OK = ("ok", "")


def sample(width: int = 40, height: int = 24) -> PIL.Image.Image:
    """Colours that tell each corner from the others."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), 255 - x * 4 % 256], -1)
    return PIL.Image.fromarray(pixels.astype(np.uint8))


def encoded(image: PIL.Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds a few bytes of it: a bomb."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b"")


def jpeg_of_scans(n_scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded(sample(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * n_scans + b"\xff\xd9"


def rotated(orientation: int) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return encoded(sample(), "JPEG", quality=95, exif=exif)


def texts() -> PngInfo:
    info = PngInfo()
    info.add_text("fmit-drawn", "1")
    return info


def text_bomb() -> bytes:
    """A PNG with a compressed comment that unpacks to 300 MB."""
    data = encoded(sample(), "PNG")
    comment = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 300_000_000, 9))
    return data[:33] + comment + data[33:]


@functools.cache
def files() -> dict[str, tuple[bytes, tuple[str, str]]]:
    """Contents, and (state, reason)."""
    jpeg, png = encoded(sample(), "JPEG"), encoded(sample(), "PNG")
    alpha = sample().convert("RGBA")
    alpha.putalpha(0)
    palette = sample().convert("P")
    frames = [sample().rotate(angle) for angle in (90, 180)]
    grey16 = PIL.Image.fromarray(np.arange(960, dtype=np.uint16).reshape(24, 40) * 68)
    gif = encoded(palette, "GIF")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return {
        "good.jpg": (jpeg, OK),
        "good.png": (png, OK),
        "good.bmp": (encoded(sample(), "BMP"), OK),
        "good.webp": (encoded(sample(), "WEBP"), OK),
        "wrong-extension.jpg": (png, OK),
        "no-extension": (jpeg, OK),
        "drawn.png": (encoded(sample(), "PNG", pnginfo=texts()), OK),
        "progressive.jpg": (encoded(sample(), "JPEG", progressive=True), OK),
        "cmyk.jpg": (encoded(sample().convert("CMYK"), "JPEG"), OK),
        "grey.jpg": (encoded(sample().convert("L"), "JPEG"), OK),
        "grey16.png": (encoded(grey16, "PNG"), OK),
        "grey16-transparent.png": (encoded(grey16, "PNG", transparency=40_000), OK),
        "bits.png": (encoded(sample().convert("1"), "PNG"), OK),
        "palette.gif": (encoded(palette, "GIF"), OK),
        "palette-alpha.png": (encoded(palette, "PNG", transparency=bytes(range(256))), OK),
        "palette-alpha.gif": (encoded(palette, "GIF", transparency=0), OK),
        "clear.png": (encoded(alpha, "PNG"), OK),
        "clear.webp": (encoded(alpha, "WEBP"), OK),
        "grey-alpha.png": (encoded(sample().convert("LA"), "PNG"), OK),
        "animated.gif": (encoded(sample(), "GIF", save_all=True, append_images=frames), OK),
        "animated.png": (encoded(sample(), "PNG", save_all=True, append_images=frames), OK),
        "animated.webp": (encoded(sample(), "WEBP", save_all=True, append_images=frames), OK),
        "rotated.jpg": (rotated(6), OK),
        "rotated.webp": (encoded(sample(), "WEBP", exif=exif), OK),
        "rotated-by-99.jpg": (rotated(99), OK),
        "bad-exif.jpg": (jpeg[:2] + b"\xff\xe1\0\x10Exif\0\0II*\0\xff\xff\xff\xff" + jpeg[2:], OK),
        "pixel.png": (encoded(sample(1, 1), "PNG"), OK),
        "thin.png": (encoded(sample(1, 16_000), "PNG"), OK),
        "too-thin.png": (encoded(sample(1, 20_000), "PNG"), ("refused", "a side over 16384 pixels")),
        "too-wide.jpg": (encoded(sample(20_000, 1), "JPEG"), ("refused", "a side over 16384 pixels")),
        "too-many-pixels.png": (png_of_size(8_000, 7_000), ("refused", "over 50000000 pixels")),
        "bomb.png": (png_of_size(60_000, 60_000), ("refused", "decompression bomb")),
        "bomb-claim.gif": (gif[:6] + b"\xff" * 4 + gif[10:], ("refused", "decompression bomb")),
        "zero-screen.gif": (gif[:6] + bytes(4) + gif[10:], OK),
        "zero.bmp": (
            b"BM" + struct.pack("<IIIIiiHHIIiiII", 58, 0, 54, 40, 0, 1, 1, 24, 0, 4, 0, 0, 0, 0),
            ("broken", "not recognised as JPEG"),
        ),
        "text-bomb.png": (text_bomb(), ("broken", "damaged image")),
        "scans.jpg": (jpeg_of_scans(400), ("refused", "over 100 JPEG scans")),
        "lies.png": (png_of_size(400, 400), ("broken", "damaged image")),
        "truncated.jpg": (jpeg[: len(jpeg) * 2 // 3], ("broken", "damaged image")),
        "truncated.png": (png[: len(png) // 2], ("broken", "damaged image")),
        "truncated.webp": (encoded(sample(), "WEBP")[:-30], ("broken", "damaged image|not recognised")),
        "header.jpg": (jpeg[:20], ("broken", "damaged image: its header is incomplete")),
        "empty.jpg": (b"", ("broken", "empty file")),
        "noise.jpg": (bytes(range(256)) * 9, ("broken", "not recognised as JPEG")),
        "page.jpg": (b"\n<!DOCTYPE html><html>404</html>", ("broken", "an HTML page")),
        "drawing.jpg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ("refused", "SVG is not read")),
        "drawing.svg": (b"\xef\xbb\xbf<?xml version='1.0'?><svg/>", ("refused", "XML or SVG is not read")),
        "script.jpg": (encoded(sample(), "EPS"), ("refused", "PostScript is not read")),
        "paper.jpg": (b"%PDF-1.7\n", ("refused", "PDF is not read")),
        "scan.jpg": (encoded(sample(), "TIFF"), ("refused", "TIFF is not read")),
        "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", ("refused", "HEIF, AVIF or video")),
        "icon.png": (encoded(sample(), "ICO"), ("refused", "ICO is not read")),
        "netpbm.jpg": (encoded(sample(), "PPM"), ("broken", "not recognised as JPEG")),
    }


def write(folder: Path) -> dict[str, tuple[str, str]]:
    """All of them as files, links and pipes under `folder / "images"`; answers (state, reason) by name."""
    root = folder / "images"
    (root / "folder.jpg").mkdir(parents=True)
    (root / "sub").mkdir()
    expected = {}
    for name, (data, outcome) in files().items():
        (root / name).write_bytes(data)
        expected[name] = outcome
    with (root / "huge.jpg").open("wb") as file:
        file.truncate(10 * 2**40)  # sparse: ten terabytes that take no room
    (folder / "outside.png").write_bytes(encoded(sample(), "PNG"))
    (root / "sub" / "inner.png").write_bytes(encoded(sample(), "PNG"))
    (root / "inner-link.png").symlink_to("sub/inner.png")
    (root / "outer-link.png").symlink_to("../outside.png")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "outside.png").write_bytes(encoded(sample(), "PNG"))
    (root / "linked").symlink_to("../elsewhere")
    (root / "device.png").symlink_to("/dev/zero")
    (root / "loop.png").symlink_to("loop.png")
    (root / "dangling.png").symlink_to("nowhere.png")
    os.mkfifo(root / "pipe.jpg")
    return expected | {
        "sub/inner.png": OK,
        "inner-link.png": OK,
        "huge.jpg": ("refused", "over 33554432 bytes"),
        "outer-link.png": OK,
        "loop.png": ("refused", "a loop of links"),
        "dangling.png": ("missing", "no such file"),
        "pipe.jpg": ("refused", "not a regular file"),
        "folder.jpg": ("refused", "not a regular file"),
        "absent.jpg": ("missing", "no such file"),
        "good.png/x.jpg": ("missing", "no such file"),
        "n" * 300 + ".jpg": ("missing", "no such file"),
        "../outside.png": ("refused", "the name leaves the image folder"),
        "sub/../../outside.png": ("refused", "the name leaves the image folder"),
        "/etc/passwd": ("refused", "the name leaves the image folder"),
        "a\0b.jpg": ("refused", "an empty name, or a NUL character in it"),
        "sub\\inner.png": ("refused", "a backslash in the name: separate folders by /"),
        "linked/outside.png": OK,
        "device.png": ("refused", "not a regular file"),
        "": ("refused", "an empty name, or a NUL character in it"),
        "\ud800.jpg": ("refused", "the name is not valid Unicode"),
        ".": ("refused", "not a regular file"),
    }

"""Every image gets a named outcome; what is called ok has the right pixels."""

import hashlib
import io
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from PIL import ImageOps

from schema.errors import ImageError
from tests.vision.bad_images import encoded, files, rotated, sample, write
from vision import images


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    return folder / "images", write(folder)


def test_each_outcome_is_named(bad):
    folder, expected = bad
    assert len(expected) >= 60
    for name, (state, reason) in expected.items():
        found = images.probe(folder, name)
        assert found.name == name
        assert found.state == state, (name, found)
        if state == "ok":
            assert (found.reason, found.digest) == ("", hashlib.sha256((folder / name).read_bytes()).hexdigest())
            assert images.load(folder, found).size == (found.width, found.height)
        else:
            assert any(found.reason.startswith(each) for each in reason.split("|")), (name, found.reason)
            assert (found.width, found.height, found.synthetic) == (0, 0, False)


def test_memory_stays_bounded(bad):
    """All of them, one after the other, in a process of its own: the bombs are not unpacked."""
    folder, expected = bad
    code = (
        "import resource, sys, pathlib; from vision import images\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "[images.probe(pathlib.Path(sys.argv[1]), name) for name in sys.stdin.read().split('\\t')]\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    names = "\t".join(name for name in expected if name.isascii() and "\0" not in name)
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder)], input=names, capture_output=True, text=True, timeout=60, check=True
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(run.stdout) * unit < 150 * 2**20


def test_unreadable(bad, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    found = images.probe(bad[0], "good.png")
    assert (found.state, found.reason) == ("broken", "unreadable file (Permission denied)")


def test_digest_of_broken_bytes_is_kept(bad):
    folder, _ = bad
    data = (folder / "truncated.jpg").read_bytes()
    assert images.probe(folder, "truncated.jpg").digest == hashlib.sha256(data).hexdigest()
    assert images.probe(folder, "absent.jpg").digest == images.probe(folder, "huge.jpg").digest == ""


def test_only_the_projects_own_images_are_drawn(bad):
    folder, expected = bad
    drawn = [name for name in expected if images.probe(folder, name).synthetic]
    assert drawn == ["drawn.png"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_upright(orientation):
    """Against Pillow's own: the eight ways a phone can be held."""
    data = rotated(orientation)
    expected = ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
    found = images.decode(data, "x")
    assert found.size == ((24, 40) if orientation > 4 else (40, 24))
    assert np.array_equal(np.asarray(found), np.asarray(expected.convert("RGB")))


def test_transparent_pixels_lie_on_the_background():
    for name in ("clear.png", "clear.webp"):
        assert images.decode(files()[name][0], name).getcolors() == [(960, images.BACKGROUND)]
    half = sample().convert("RGBA")
    half.putalpha(128)
    found = np.asarray(images.decode(encoded(half, "PNG"), "x")).astype(float)
    expected = np.asarray(sample()) * (128 / 255) + 255 * (127 / 255)
    assert np.abs(found - expected).max() <= 1
    pixels = np.asarray(images.decode(files()["palette-alpha.png"][0], "x"))
    opaque = np.asarray(sample().convert("P").convert("RGB")).astype(float)
    weight = np.asarray(sample().convert("P"))[..., None] / 255
    assert np.abs(pixels - (opaque * weight + 255 * (1 - weight))).max() <= 1


def test_sixteen_bits_keep_the_high_byte():
    for name in ("grey16.png", "grey16-transparent.png"):
        found = np.asarray(images.decode(files()[name][0], name))
        assert np.array_equal(found[..., 0], (np.arange(960).reshape(24, 40) * 68) >> 8), name


@pytest.mark.parametrize("name", ["animated.gif", "animated.png", "animated.webp"])
def test_first_frame(name):
    found = np.asarray(images.decode(files()[name][0], name)).astype(int)
    assert np.abs(found - np.asarray(sample())).mean() < 12, "lossy, but the first and not a turned one"


def test_load_checks_what_ingest_saw(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(sample(), "PNG"))
    record = images.probe(tmp_path, "a.png")
    assert np.array_equal(np.asarray(images.load(tmp_path, record)), np.asarray(sample()))
    path.write_bytes(encoded(sample(41), "PNG"))
    with pytest.raises(ImageError, match=r"a\.png: the image changed since ingest; run the ingest stage again"):
        images.load(tmp_path, record)
    path.unlink()
    with pytest.raises(ImageError, match=r"a\.png: no such file, but ingest could read it; put the image back, or run"):
        images.load(tmp_path, record)


def test_decode_names_the_image():
    with pytest.raises(ImageError, match=r"IMG_7: not recognised .* \(found it starts with b'noise'\)") as caught:
        images.decode(b"noise", "IMG_7")
    assert caught.value.state == "broken"


def test_damaged_bytes_never_escape_as_another_error():
    """Fuzz: bytes flipped, cut and doubled at random in every kind of file."""
    source = random.Random(7)
    originals = [data for name, (data, _) in files().items() if name not in ("text-bomb.png", "scans.jpg")]
    outcomes = {"ok": 0, "broken": 0, "refused": 0}
    for data in originals * 12:
        damaged = bytearray(data or b"x")
        for _ in range(source.choice((1, 3, 20))):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        if source.random() < 0.3:
            at = source.randrange(len(damaged))
            damaged[at:] = damaged[at // 2 :]
        try:
            images.decode(bytes(damaged), "x")
            outcomes["ok"] += 1
        except ImageError as error:
            outcomes[error.state] += 1
    assert min(outcomes.values()) > 10


def test_empty_image_is_pinned():
    assert images.EMPTY.getcolors() == [(224 * 224, (128, 128, 128))]
    assert images.EMPTY_DIGEST == "225bc641d8921917ebabdae7d087f0297c967c1365514d0be3cb40a4900de802"


def test_photographs():
    folder = Path("../shared/data/photos/images")
    if not folder.is_dir():
        pytest.skip("../shared/data/photos is not here")
    found = [images.probe(folder, path.name) for path in sorted(folder.iterdir())]
    assert [image.state for image in found] == ["ok"] * 23

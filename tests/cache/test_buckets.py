"""Buckets: what identifies a post's content, and regions through JSON."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cache.packs import (
    HEAD_BYTES,
    Bucket,
    Objects,
    bucket_bytes,
    bucket_note,
    bucket_of,
    post_digest,
    verify_bucket,
)
from schema.errors import PackError
from schema.records import Box, Region, Span

REGION = Region("phrase", "a ☕", Span(1, 2), Box(1, 2, 30, 40, 1), 0.1)
OBJECTS = Objects(np.arange(4, dtype="f4").reshape(1, 4), (REGION,))


def test_regions_come_back_exactly() -> None:
    regions = (
        REGION,
        Region("image", "", None, None, 1 / 3),
        Region("general", "x" * 300, None, Box(0, 0, 1, 1), -1e-30),
    )
    written = json.loads(json.dumps([region.to_list() for region in regions]))
    assert tuple(Region.from_list(*values) for values in written) == regions


def test_a_digest_covers_everything() -> None:
    others = [
        Objects(OBJECTS.features, (dataclasses.replace(REGION, **change),))
        for change in (
            {"source": "general"},
            {"text": "b"},
            {"span": None},
            {"box": None},
            {"box": Box(1, 2, 30, 40, 0)},
            {"score": 0.2},
        )
    ]
    others += [Objects(OBJECTS.features + 1, (REGION,)), Objects(OBJECTS.features.astype("f2"), (REGION,))]
    digests = {post_digest("p", one) for one in (OBJECTS, *others)} | {post_digest("q", OBJECTS)}
    assert len(digests) == len(others) + 2


def test_posts_fall_evenly() -> None:
    counts = np.bincount([bucket_of(f"post-{at}", 16) for at in range(16_000)], minlength=16)
    assert counts.min() > 850
    assert counts.max() < 1150


def test_a_bucket_file_is_read_by_itself(tmp_path: Path) -> None:
    posts = [("a", OBJECTS), ("b", Objects(np.zeros((0, 4), "f4"), ())), ("c", OBJECTS)]
    path = tmp_path / "bucket-002.h5"
    path.write_bytes(bucket_bytes(posts, "float32", 4, bucket_note(2, 5)))
    verify_bucket(path)
    bucket = Bucket(path, 2, 5, "float32", 4)
    assert list(bucket.rows) == ["a", "b", "c"]
    stored = Objects(*bucket.place_of("c"))
    assert stored.regions == (REGION,)
    assert stored.regions is stored.regions, "made once"
    with pytest.raises(AttributeError):
        stored.features = OBJECTS.features
    assert bucket.digests() == [(post_id, post_digest(post_id, objects)) for post_id, objects in posts]
    assert path.read_bytes().startswith(b"fmit pack bucket\nsha256 of what follows byte 512: ")
    assert path.read_bytes()[HEAD_BYTES:].startswith(b"\x89HDF")
    for wrong in ((1, 5, "float32", 4), (2, 6, "float32", 4), (2, 5, "float32", 5), (2, 5, "float16", 4)):
        with pytest.raises(PackError, match=r"not a readable bucket: its? (says|features are)"):
            Bucket(path, *wrong)
    with pytest.raises(PackError, match="a bucket cannot be read: No such file"):
        verify_bucket(tmp_path / "none")

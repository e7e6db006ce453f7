"""A spool gives back what it took, in any order."""

from pathlib import Path

import numpy as np
import pytest

from cache.buckets import Objects, Spool
from schema.errors import PackError
from tests.cache.test_packs import assert_same, make_objects


def test_posts_come_back_in_any_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", np.dtype("f2"), 8)
    for at in range(9):
        spool.add(f"p{at}", make_objects(at))
    assert spool.ids == [f"p{at}" for at in range(9)]
    for at in (8, 0, 3, 4, 3):
        assert_same(spool.read(f"p{at}"), make_objects(at))
    with pytest.raises(PackError, match="post 'p1' comes twice"):
        spool.add("p1", make_objects(1))
    for bad in (np.zeros((2, 8), "f2"), np.zeros((1, 7), "f2"), np.zeros((1, 8), "f4"), np.zeros(8, "f2")):
        with pytest.raises(PackError, match=r"post 'x': features must be float16 \[1, 8\]"):
            spool.add("x", Objects(bad, make_objects(1).regions))
    spool.close()


def test_features_need_not_be_contiguous(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", np.dtype("f4"), 3)
    regions = make_objects(2).regions
    features = np.arange(12, dtype="f4").reshape(2, 6)[:, ::2]
    spool.add("p", Objects(features, regions))
    np.testing.assert_array_equal(spool.read("p").features, features)
    spool.close()

import copy

import numpy as np
import pytest

from cache import tables
from cache.packs import Pack
from pipeline.chain import build_chain
from schema.errors import PackError, ToyError, WeightsError


@pytest.fixture(scope="module")
def pack(trained):
    return Pack.open(trained.out("own", "pack"))


def test_the_rebuilt_chain_makes_the_packs_objects(trained, pack):
    table = tables.read_posts(trained.out("own", "posts.parquet"))
    chain = build_chain(pack.meta.provenance)
    for post, objects in zip(table.posts, chain.objects(table.posts, table.labels, trained.images("own")), strict=True):
        stored = pack.read(post.id)
        assert objects.regions == stored.regions
        np.testing.assert_allclose(objects.features, stored.features, atol=1e-4)


def test_features_from_elsewhere_have_no_chain():
    with pytest.raises(PackError, match=r"not made by these stages .found no phrases, ground, regions"):
        build_chain({"kind": "imported"})


def test_other_weights_are_refused_by_name(pack):
    provenance = copy.deepcopy(pack.meta.provenance)
    provenance["regions"]["identity"]["weights"] = "0" * 64
    with pytest.raises(WeightsError, match=r"the regions part is not the one .*weights [0-9a-f]{64} instead of 0000"):
        build_chain(provenance)


def test_what_is_allowed_reaches_the_toys(trained, pack, tmp_path):
    from dataclasses import replace

    table = tables.read_posts(trained.out("own", "posts.parquet"))
    post = table.posts[0]
    foreign = [replace(post, images=tuple(replace(image, drawn=False) for image in post.images))]
    with pytest.raises(ToyError):
        build_chain(pack.meta.provenance).objects(foreign, table.labels, trained.images("own"))
    allowed = build_chain(pack.meta.provenance, allow_toy=True)
    assert allowed.objects(foreign, table.labels, trained.images("own"))

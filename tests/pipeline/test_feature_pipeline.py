import copy

import numpy as np
import pytest

from cache import tables
from cache.packs import Pack
from pipeline.feature_pipeline import FeaturePipeline
from schema.errors import PackError, SyntheticError, WeightsError


@pytest.fixture(scope="module")
def pack(trained):
    return Pack(trained.out("own", "pack"))


def test_the_rebuilt_pipeline_makes_the_packs_objects(trained, pack):
    table = tables.read_posts(trained.out("own", "posts.parquet"))
    pipeline = FeaturePipeline.of_pack(pack.meta.provenance)
    for post, objects in zip(
        table.posts, pipeline.objects(table.posts, table.labels, trained.images("own")), strict=True
    ):
        stored = pack.read(post.id)
        assert objects.regions == stored.regions
        np.testing.assert_allclose(objects.features, stored.features, atol=1e-4)


def test_a_single_post_is_predicted_without_padding_images(trained, pack, monkeypatch):
    from pipeline.grounding.onestage.network import OneStage

    n_images, encode_images = [], OneStage.encode_images
    monkeypatch.setattr(
        OneStage, "encode_images", lambda network, x: n_images.append(len(x)) or encode_images(network, x)
    )
    table = tables.read_posts(trained.out("own", "posts.parquet"))
    post = next(one for one in table.posts if one.images and one.images[0].ok)
    pipeline = FeaturePipeline.of_pack(pack.meta.provenance)
    (objects,) = pipeline.objects([post], table.labels, trained.images("own"))
    assert n_images == [1]
    stored = pack.read(post.id)
    assert [(one.text, one.span, one.box) for one in objects.regions] == [
        (one.text, one.span, one.box) for one in stored.regions
    ]
    np.testing.assert_allclose([one.score for one in objects.regions], [one.score for one in stored.regions], atol=1e-5)
    np.testing.assert_allclose(objects.features, stored.features, atol=1e-4)


def test_boxes_alone_are_the_packs_objects_and_need_no_network(trained, pack, monkeypatch):
    from dataclasses import replace

    provenance = copy.deepcopy(pack.meta.provenance)
    provenance["regions"]["identity"]["weights"] = "0" * 64  # of a network that is not here
    monkeypatch.setattr("pipeline.feature_pipeline.open_net", lambda config: pytest.fail("a network was built"))
    table = tables.read_posts(trained.out("own", "posts.parquet"))
    pipeline = FeaturePipeline.of_pack(provenance, "boxes")
    for post, objects in zip(
        table.posts, pipeline.objects(table.posts, table.labels, trained.images("own")), strict=True
    ):
        assert objects.regions == pack.read(post.id).regions
        assert objects.features.shape == (len(objects.regions), 0)
    foreign = replace(table.posts[0], images=tuple(replace(image, synthetic=False) for image in table.posts[0].images))
    with pytest.raises(SyntheticError, match="synthetic-grounder was trained on drawings"):
        FeaturePipeline.of_pack(provenance, "boxes").objects([foreign], table.labels, trained.images("own"))
    with pytest.raises(PackError, match=r"not computed by FMIT's stages .found no phrases, ground, regions"):
        FeaturePipeline.of_pack({"kind": "imported"}, "boxes")


def test_features_from_elsewhere_have_no_pipeline():
    with pytest.raises(PackError, match=r"not computed by FMIT's stages .found no phrases, ground, regions"):
        FeaturePipeline.of_pack({"kind": "imported"})


def test_other_weights_are_refused_by_name(pack):
    provenance = copy.deepcopy(pack.meta.provenance)
    provenance["regions"]["identity"]["weights"] = "0" * 64
    with pytest.raises(WeightsError, match=r"the regions model is not the one .*weights [0-9a-f]{64} instead of 0000"):
        FeaturePipeline.of_pack(provenance)


def test_what_is_allowed_reaches_the_grounder(trained, pack, tmp_path):
    from dataclasses import replace

    table = tables.read_posts(trained.out("own", "posts.parquet"))
    post = table.posts[0]
    foreign = [replace(post, images=tuple(replace(image, synthetic=False) for image in post.images))]
    with pytest.raises(SyntheticError):
        FeaturePipeline.of_pack(pack.meta.provenance).objects(foreign, table.labels, trained.images("own"))
    allowed = FeaturePipeline.of_pack(pack.meta.provenance, allow_synthetic=True)
    assert allowed.objects(foreign, table.labels, trained.images("own"))


def with_grid(trained, folder):
    """The grid of the trained project's images, and the pack that it lies in."""
    from pipeline.regions import stage as regions_stage
    from pipeline.regions.config import PRESETS

    config = PRESETS["synthetic"].model_copy(update={"grid": True, "n_buckets": 4})
    inputs = (trained.out("own", name) for name in ("posts.parquet", "boxes.parquet"))
    regions_stage.run(config, *inputs, trained.images("own"), folder / "pack", folder / "store")
    return Pack(folder / "pack")


def test_the_rebuilt_network_makes_the_packs_grid(trained, tmp_path):
    from dataclasses import replace

    from model.objects import FromPack

    grid = with_grid(trained, tmp_path).grid
    table = tables.read_posts(trained.out("own", "posts.parquet"))
    pipeline = FeaturePipeline.of_pack(grid.meta.provenance, "grid", batch=3)
    stored = FromPack(grid, grid=True)
    found = pipeline.objects(table.posts, table.labels, trained.images("own"))
    for post, objects in zip(table.posts, found, strict=True):
        assert len(objects.regions) == 4 * sum(image.ok for image in post.images)
        assert objects.regions == stored(post).regions
        assert objects.features.dtype == stored(post).features.dtype
        np.testing.assert_allclose(objects.features, stored(post).features, atol=4e-3)  # float16, another batch
    twice = replace(table.posts[0], images=table.posts[0].images * 2)
    (both,) = pipeline.objects([twice], table.labels, trained.images("own"))
    assert [region.box.image_index for region in both.regions] == [0] * 4 + [1] * 4


def test_a_grid_of_other_weights_is_refused(trained, tmp_path):
    provenance = copy.deepcopy(with_grid(trained, tmp_path).grid.meta.provenance)
    provenance["regions"]["identity"]["weights"] = "0" * 64
    with pytest.raises(WeightsError, match="the regions model is not the one"):
        FeaturePipeline.of_pack(provenance, "grid")
    with pytest.raises(PackError, match=r"not computed by FMIT's stages .found no regions"):
        FeaturePipeline.of_pack({"kind": "imported"}, "grid")

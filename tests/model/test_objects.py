"""Which objects a post gets, by hand: settings, cap, truncation, controls, and packs that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.packs import Objects, Pack, PackMeta, write_pack
from model.objects import (
    FromMemory,
    ObjectPlan,
    donor_permutation,
    match_donor,
    no_objects,
    open_pack,
    plan_objects,
    source_of,
)
from schema.errors import PackError
from schema.records import Box, Region, Source, Span
from tests.model.tiny import post, tiny_config

BOX = Box(0, 0, 2, 2)


def region(source: Source, start: int | None = None, end: int = 0) -> Region:
    return Region(source, "", None if start is None else Span(start, end), BOX, 1.0)


REGIONS = (region("image"), region("general"), region("general"), region("phrase", 0, 2), region("phrase", 2, 5))
POST = post(0, "train", ["a", "b", "c", "d", "e"], None)
OBJECTS = Objects(np.arange(5, dtype=np.float32)[:, None], REGIONS)


def plan(n_words: int = 5, **changes: object) -> ObjectPlan:
    config = tiny_config(Path("none"), **changes)
    return plan_objects([POST], FromMemory({POST.id: OBJECTS}), [n_words], config, 0)[0]


@pytest.mark.parametrize(
    ("setting", "indices"),
    [("all", (0, 1, 2, 3, 4)), ("grid", (0,)), ("phrases", (3, 4)), ("general", (1, 2)), ("image", (0,))],
)
def test_settings(setting: str, indices: tuple[int, ...]) -> None:
    found = plan(objects=setting)
    assert (found.owner, found.indices, found.cut) == (0, indices, ())


def test_spans_are_head_and_tail() -> None:
    assert plan().spans == ((1, 5), (1, 5), (1, 5), (1, 2), (3, 5))


def test_no_object_at_all() -> None:
    assert plan(objects="none") == ObjectPlan(0, (), ())


def test_the_cap_counts_what_it_cuts() -> None:
    found = plan(max_objects=3)
    assert (found.indices, found.spans, found.cut) == ((0, 3, 4), ((1, 5), (1, 2), (3, 5)), ("general", "general"))
    assert plan(max_objects=2).cut == ("general", "general", "phrase")
    assert plan(objects="general", max_objects=1).cut == ("general",)


def test_the_cap_is_of_each_image_where_cells_of_the_grid_are_read() -> None:
    cells = [replace(region("image"), box=Box(0, 0, 2, 2, index)) for index in (0, 1) for _ in range(49)]
    two = FromMemory({POST.id: Objects(np.zeros((98, 1), np.float32), tuple(cells))})
    whole, cut = (
        plan_objects([POST], two, [5], tiny_config(Path("none"), objects="grid", **changes), 0)[0]
        for changes in ({}, {"max_objects": 3})
    )
    assert (whole.indices, whole.cut) == (tuple(range(98)), ())
    assert (cut.indices, len(cut.cut)) == ((0, 1, 2, 49, 50, 51), 92)


def test_truncated_words_take_their_objects_with_them() -> None:
    assert plan(n_words=3).spans == ((1, 3), (1, 3), (1, 3), (1, 2), (3, 3))
    two = plan(n_words=2)
    assert (two.indices, two.spans[-1], two.cut) == ((0, 1, 2, 3), (1, 2), ("phrase",))


def test_empty_is_one_object_of_zeros_at_all_words() -> None:
    assert plan(control="empty") == ObjectPlan(None, (0,), ((1, 5),))


def test_exchange_keeps_places_and_sources() -> None:
    own = [region("image"), region("phrase", 0, 1), region("general"), region("phrase", 1, 2), region("phrase", 2, 3)]
    lent = [region("general"), region("phrase", 0, 4), region("phrase", 3, 4)]
    assert match_donor(own, lent) == [0, 1, 0, 2, 1]
    assert match_donor(own, []) == []


@pytest.mark.parametrize("n_posts", [2, 3, 50])
def test_no_post_keeps_its_own_images(n_posts: int) -> None:
    found = donor_permutation(n_posts, 3)
    assert sorted(found) == list(range(n_posts))
    assert all(donor != row for row, donor in enumerate(found))
    assert found == donor_permutation(n_posts, 3)


def test_shuffled_reads_the_donors_features() -> None:
    other = post(1, "train", ["x"], None)
    source = FromMemory({POST.id: OBJECTS, other.id: Objects(np.zeros((1, 1), np.float32), (region("image"),))})
    config = tiny_config(Path("none"), control="shuffled")
    first, second = plan_objects([POST, other], source, [5, 1], config, 0)
    assert (first.owner, first.indices, first.spans) == (1, (0,) * 5, plan().spans)
    assert (second.owner, second.indices, second.spans) == (0, (0,), ((1, 1),))


def test_a_donor_without_objects_leaves_zeros() -> None:
    other = post(1, "train", ["x"], None)
    source = FromMemory({POST.id: OBJECTS, other.id: no_objects(other)})
    first, second = plan_objects([POST, other], source, [5, 1], tiny_config(Path("none"), control="shuffled"), 0)
    assert (first.owner, first.spans) == (None, plan().spans)
    assert second.spans == ()


def make_pack(folder: Path, name: str = POST.id, **provenance: object) -> Pack:
    write_pack(folder, PackMeta(1, "float32", 1, (), False, dict(provenance)), [(name, OBJECTS)])
    return Pack(folder)


def test_the_pack_must_hold_the_posts(tmp_path: Path) -> None:
    make_pack(tmp_path / "pack")
    config = tiny_config(Path("none"))
    pack = open_pack(config, tmp_path / "pack")
    assert source_of(config, pack, [POST])(POST).regions == REGIONS
    with pytest.raises(PackError, match=r"1 post\(s\) are not in the pack \(found p7\); run the regions stage"):
        source_of(config, pack, [POST, post(7, "dev", ["x"], None)])


def test_text_only_needs_no_pack(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"this approach needs objects \(found no pack\)"):
        open_pack(tiny_config(Path("none")), None)
    config = tiny_config(Path("none"), objects="none")
    assert open_pack(config, None) is None
    assert open_pack(config, tmp_path / "pack") is None
    assert source_of(config, None, [POST])(POST).regions == ()


def test_the_grid_goes_by_images(tmp_path: Path) -> None:
    config = tiny_config(Path("none"), objects="grid")
    make_pack(tmp_path / "pack")
    with pytest.raises(PackError, match=r"a pack without a grid\); set regions.grid: true"):
        open_pack(config, tmp_path / "pack")
    image, meta = POST.images[0], PackMeta(1, "float32", 1, ())
    write_pack(tmp_path / "pack", meta, [(POST.id, OBJECTS)], grid=(meta, [(image.digest, OBJECTS)]))
    pack = open_pack(config, tmp_path / "pack")
    lost = replace(image, state="missing", digest="")
    two = replace(POST, images=(lost, image, image))
    objects = source_of(config, pack, [two])(two)
    assert objects.features[:, 0].tolist() == [0, 1, 2, 3, 4] * 2
    assert [region.box and region.box.image_index for region in objects.regions] == [1] * 5 + [2] * 5
    none = replace(POST, images=(lost,))
    assert source_of(config, pack, [none])(none).features.shape == (0, 1)
    other = replace(POST, images=(replace(image, digest="1" * 64),))
    with pytest.raises(PackError, match=r"1 image\(s\) are not in the pack"):
        source_of(config, pack, [other])

"""Packs: equal bytes for equal posts, one file per changed post, reading from any worker, and damage found."""

import json
import multiprocessing
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache.packs import Objects, Pack, PackMeta, bucket_name, bucket_of, verify_bucket, write_pack
from schema.errors import PackError
from schema.records import Box, Region, Span

META = PackMeta(8, "float16", 16, ("person", "location"), synthetic=True, provenance={"regions": "resnet18@1"})


def make_objects(seed: int, dtype: str = "float16", dim: int = 8) -> Objects:
    """Between 0 and 3 objects: an empty image, boxes on two images, spans, texts that are not ASCII."""
    rng = np.random.default_rng(seed)
    regions = (
        Region("image", "", None, None, 1.0),
        Region("general", "person", None, Box(0, 1, 20, 30, 1), 1 / 3),
        Region("phrase", "Zoë's café ☕", Span(2, 5), Box(3, 4, 50_000, 60_000), float(rng.normal())),
    )[: seed % 4]
    return Objects(rng.normal(size=(len(regions), dim)).astype(dtype), regions)


def make_posts(n: int = 60) -> dict[str, Objects]:
    return {f"post {index}é": make_objects(index) for index in range(n)}


@pytest.fixture(name="pack")
def pack_(tmp_path: Path) -> Pack:
    write_pack(tmp_path / "pack", META, make_posts().items())
    return Pack(tmp_path / "pack")


def assert_same(found: Objects, given: Objects) -> None:
    np.testing.assert_array_equal(found.features, given.features)
    assert found.features.dtype == given.features.dtype
    assert found.regions == given.regions


def test_what_was_written_is_read(pack: Pack) -> None:
    posts = make_posts()
    assert pack.ids == sorted(posts)
    assert pack.meta == META
    for post_id, objects in posts.items():
        assert_same(pack.read(post_id), objects)
    assert "post 7é" in pack
    assert "post 700" not in pack


def test_features_are_a_view_of_the_file(pack: Pack) -> None:
    features = pack.read("post 3é").features
    assert not features.flags.owndata
    assert not features.flags.writeable
    assert features.ctypes.data % 2 == 0


def test_any_tool_opens_a_bucket(pack: Pack) -> None:
    path = pack.folder / bucket_name(bucket_of("post 3é", 16))
    with h5py.File(path) as file:
        assert file["features"].shape[1] == 8
        assert file["features"].chunks is None
        assert len(file["first"]) == len(file["id_ends"]) + 1


def test_equal_posts_are_equal_bytes_in_any_order_at_any_time(pack: Pack, tmp_path: Path) -> None:
    time.sleep(1.1)  # HDF5 writes times in seconds where it is not told otherwise
    write_pack(tmp_path / "again", META, reversed(make_posts().items()))
    files = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    assert files == {path.name: path.read_bytes() for path in pack.folder.iterdir()}
    assert sorted(files) == [*(bucket_name(index) for index in range(16)), "meta.json"]


@pytest.mark.parametrize("change", ["features", "region", "gone", "new"])
def test_one_changed_post_changes_one_file(pack: Pack, change: str) -> None:
    posts = make_posts()
    old = posts["post 3é"]
    if change == "features":
        posts["post 3é"] = Objects(old.features + np.float16(1), old.regions)
    elif change == "region":
        posts["post 3é"] = Objects(old.features[:2], old.regions[:2])
    elif change == "gone":
        del posts["post 3é"]
    else:
        posts["another"] = make_objects(2)
    before = {path.name: (path.read_bytes(), path.stat().st_ino) for path in pack.folder.iterdir()}
    digest = pack.digest()
    write_pack(pack.folder, META, posts.items())
    after = {path.name: (path.read_bytes(), path.stat().st_ino) for path in pack.folder.iterdir()}
    changed = bucket_name(bucket_of("another" if change == "new" else "post 3é", 16))
    assert {name for name in after if after[name][0] != before[name][0]} == {changed}
    assert {name for name in after if after[name][1] != before[name][1]} == {changed, "meta.json"}
    assert Pack(pack.folder).digest() != digest


def test_a_post_comes_into_an_empty_bucket(tmp_path: Path) -> None:
    write_pack(tmp_path / "pack", META, [])
    names = {path.name: path.read_bytes() for path in (tmp_path / "pack").iterdir()}
    assert len(names) == 17
    assert Pack(tmp_path / "pack").ids == []
    write_pack(tmp_path / "pack", META, [("a", make_objects(3))])
    assert sum(path.read_bytes() != names[path.name] for path in (tmp_path / "pack").iterdir()) == 1


def test_buckets_are_stable() -> None:
    assert [bucket_of(one, 64) for one in ("1", "O_3386", "é")] == [33, 2, 19]  # sha256 of the id, by sha256sum


def test_digest_is_of_content(pack: Pack, tmp_path: Path) -> None:
    other = PackMeta(8, "float16", 3, META.general_words, synthetic=True, provenance={"regions": "another"})
    write_pack(tmp_path / "other", other, make_posts().items())
    assert Pack(tmp_path / "other").digest() == pack.digest()
    words = PackMeta(8, "float16", 16, ("person",), synthetic=True)
    write_pack(tmp_path / "words", words, make_posts().items())
    assert Pack(tmp_path / "words").digest() != pack.digest()


def read_in_child(pack: Pack, ids: list[str]) -> list[tuple[np.ndarray, tuple[Region, ...]]]:
    return [(pack.read(one).features.copy(), pack.read(one).regions) for one in ids]


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_workers_read(pack: Pack, method: str) -> None:
    ids = pack.ids
    pack.read(ids[0])
    with multiprocessing.get_context(method).Pool(2) as pool:
        parts = pool.starmap(read_in_child, [(pack, ids[::2]), (pack, ids[1::2])])
    for part, names in zip(parts, (ids[::2], ids[1::2]), strict=True):
        for (features, regions), name in zip(part, names, strict=True):
            assert_same(Objects(features, regions), make_posts()[name])


def test_objects_pickle_by_value(pack: Pack) -> None:
    assert_same(pickle.loads(pickle.dumps(pack.read("post 3é"))), make_objects(3))


def test_verify_finds_every_flipped_byte(pack: Pack) -> None:
    path = pack.folder / bucket_name(bucket_of("post 3é", 16))
    good = path.read_bytes()
    assert pack.verify() == []
    rng = np.random.default_rng(0)
    for at in [0, 40, 511, 512, len(good) - 1, *rng.integers(0, len(good), 300).tolist()]:
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << int(rng.integers(8)))]) + good[at + 1 :])
        with pytest.raises(PackError, match="bytes do not match"):
            verify_bucket(path)
    problems = pack.verify()
    assert [path.name in problem for problem in problems] == [True]
    path.write_bytes(good)
    assert pack.verify() == []


def test_verify_finds_swapped_missing_and_foreign_files(pack: Pack) -> None:
    first, second = pack.folder / bucket_name(0), pack.folder / bucket_name(1)
    first.rename(pack.folder / "x")
    second.rename(first)
    (pack.folder / "x").rename(second)
    problems = Pack(pack.folder).verify()
    assert len(problems) == 2
    assert all("not a readable bucket: it says" in problem for problem in problems)
    first.unlink()
    (pack.folder / "notes.txt").write_text("mine")
    problems = Pack(pack.folder).verify()
    assert len(problems) == 3
    assert "notes.txt: does not belong to this pack" in problems[-1]


@pytest.mark.parametrize("keep", [0, 100, 512, 700, 3000])
def test_a_truncated_bucket_is_an_error(pack: Pack, keep: int) -> None:
    path = pack.folder / bucket_name(bucket_of("post 3é", 16))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PackError, match=r"not a readable bucket.*pull the pack"):
        Pack(pack.folder).read("post 3é")


def test_a_missing_bucket_is_a_short_error(pack: Pack) -> None:
    path = pack.folder / bucket_name(bucket_of("post 3é", 16))
    path.unlink()
    with pytest.raises(
        PackError, match=rf"{path.name}: not a readable bucket: No such file or directory; pull the pack"
    ):
        Pack(pack.folder).read("post 3é")


def test_errors_say_what(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no post 'x' in the pack"):
        pack.read("x")
    with pytest.raises(PackError, match=r"not a readable pack.*run the regions stage"):
        Pack(tmp_path / "nothing")
    (pack.folder / "meta.json").write_text(
        json.dumps({**json.loads((pack.folder / "meta.json").read_text()), "toy": 1})
    )
    with pytest.raises(PackError, match=r"written by another version of fmit \(found the key 'toy'\).*regions stage"):
        Pack(pack.folder)
    with pytest.raises(PackError, match="post 'a' appears twice"):
        write_pack(tmp_path / "b", META, [("a", make_objects(1)), ("a", make_objects(1))])
    with pytest.raises(PackError, match=r"features must be float16 \[1, 8\] \(found float32 \[1, 8\]\)"):
        write_pack(tmp_path / "b", META, [("a", make_objects(1, "float32"))])
    with pytest.raises(PackError, match="float16 or float32"):
        PackMeta(8, "float64", 16, ())
    assert not (tmp_path / "b").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_a_failed_writer_leaves_the_old_pack(pack: Pack) -> None:
    def broken() -> Iterator[tuple[str, Objects]]:
        yield "a", make_objects(1)
        raise RuntimeError("the GPU fell off")

    digest = pack.digest()
    with pytest.raises(RuntimeError, match="GPU"):
        write_pack(pack.folder, META, broken())
    assert Pack(pack.folder).digest() == digest
    assert pack.verify() == []


def test_a_pack_may_hold_a_second_one(pack: Pack, tmp_path: Path) -> None:
    cells = {f"{index:064x}": Objects(make_objects(2, "float32", 4).features, ()) for index in range(9)}
    cells = {name: Objects(one.features, make_objects(2).regions) for name, one in cells.items()}
    meta = PackMeta(4, "float32", 3, ())
    bare = {path.name: path.read_bytes() for path in pack.folder.iterdir()}
    write_pack(pack.folder, META, make_posts().items(), grid=(meta, cells.items()))
    both = Pack(pack.folder)
    assert {path.name: path.read_bytes() for path in pack.folder.iterdir() if path.is_file()} == bare
    assert both.digest() == Pack(pack.folder).digest() == pack.digest()
    assert (both.verify(), both.grid.ids, both.grid.meta, both.grid.grid) == ([], sorted(cells), meta, None)
    times = {path.name: path.stat().st_mtime_ns for path in (pack.folder / "grid").glob("bucket-*")}
    write_pack(pack.folder, META, make_posts(61).items(), grid=(meta, cells.items()))
    assert {path.name: path.stat().st_mtime_ns for path in (pack.folder / "grid").glob("bucket-*")} == times
    path = pack.folder / "grid" / bucket_name(1)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (pack.folder / "grid" / "more").write_bytes(b"")
    problems = Pack(pack.folder).verify()
    assert [str(path) in problems[0], str(path.with_name("more")) in problems[-1], len(problems)] == [True, True, 2]
    write_pack(pack.folder, META, make_posts().items())
    assert Pack(pack.folder).grid is None


def test_features_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    regions = make_objects(1).regions
    for bad in (np.zeros((2, 8), "f2"), np.zeros((1, 7), "f2"), np.zeros((1, 8), "f4"), np.zeros(8, "f2")):
        with pytest.raises(PackError, match=r"post 'x': features must be float16 \[1, 8\]"):
            write_pack(tmp_path / "b", META, [("x", Objects(bad, regions))])


def test_features_need_not_be_contiguous(tmp_path: Path) -> None:
    features = np.arange(32, dtype="f2").reshape(2, 16)[:, ::2]
    write_pack(tmp_path / "b", META, [("p", Objects(features, make_objects(2).regions))])
    np.testing.assert_array_equal(Pack(tmp_path / "b").read("p").features, features)

"""A pack taken out and brought in again is the same pack; a table made elsewhere is checked row by row."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache.exchange import TABLE, Imported, export_features, import_features
from cache.packs import Objects, Pack, PackMeta, write_pack
from cache.tables import Posts
from schema.errors import DataError
from schema.labels import DEFAULT_LABELS
from schema.records import Box, Image, Post, Region, Span, joined

WORDS = ("Zoë", "visits", "a", "café")
IMAGES = (Image("a.jpg", "0" * 64, 100, 80), Image("b.jpg", "1" * 64, 50, 50))
DIM = 5


def make_dataset(n: int = 6) -> Posts:
    text, offsets = joined(WORDS)
    posts = [Post(f"p{at}", "train", WORDS, text, offsets, images=IMAGES[: at % 3]) for at in range(n)]
    return Posts(posts, DEFAULT_LABELS)


def make_regions(post: Post) -> tuple[Region, ...]:
    """In the lattice's order: each image and its general words, then phrases."""
    if not post.images:
        return (Region("image", "", None, None, 1.0), Region("phrase", "Zoë", Span(0, 1), None, 0.0))
    found = []
    for index, image in enumerate(post.images):
        found.append(Region("image", "", None, Box(0, 0, image.width, image.height, index), 1.0))
        for at, word in enumerate(DEFAULT_LABELS.general_words):
            found.append(Region("general", word, None, Box(at, 0, at + 5, 9, index), at / 3))
    spans = (Span(0, 1), Span(0, 4), Span(2, 4))
    return (*found, *(Region("phrase", " ".join(WORDS[s.start : s.end]), s, Box(1, 2, 3, 4), 0.5) for s in spans))


def make_pack(folder: Path, dtype: str = "float16", meta: dict[str, Any] | None = None) -> Pack:
    rng = np.random.default_rng(0)
    posts = make_dataset().posts
    rows = [(post.id, make_regions(post)) for post in posts]
    objects = ((name, Objects(rng.normal(size=(len(r), DIM)).astype(dtype), r)) for name, r in rows)
    words = DEFAULT_LABELS.general_words
    write_pack(folder, PackMeta(DIM, dtype, 4, words, True, {"regions": {"name": "toy"}}), objects)
    return Pack.open(folder)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_out_and_in_again_is_the_same_pack(tmp_path: Path, dtype: str) -> None:
    pack, dataset = make_pack(tmp_path / "pack", dtype), make_dataset()
    n_rows = export_features(pack, dataset, tmp_path / "table.parquet")
    found = import_features(tmp_path / "table.parquet", dataset, tmp_path / "again", n_buckets=4)
    assert found == Imported(6, n_rows, 0, DIM, dtype)
    again = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    assert again == {path.name: path.read_bytes() for path in pack.folder.iterdir()}
    export_features(Pack.open(tmp_path / "again"), dataset, tmp_path / "table2.parquet")
    assert (tmp_path / "table.parquet").read_bytes() == (tmp_path / "table2.parquet").read_bytes()


def test_rows_in_any_order_and_in_foreign_types(tmp_path: Path) -> None:
    pack, dataset = make_pack(tmp_path / "pack", "float32"), make_dataset()
    export_features(pack, dataset, tmp_path / "table.parquet")
    table = pq.read_table(tmp_path / "table.parquet")
    order = np.random.default_rng(1).permutation(len(table))
    shuffled = table.take(order).replace_schema_metadata(None)
    for name in ("word_start", "x0"):
        at = shuffled.schema.get_field_index(name)
        shuffled = shuffled.set_column(at, name, shuffled.column(name).cast(pa.int64()))
    at = shuffled.schema.get_field_index("features")
    shuffled = shuffled.set_column(at, "features", shuffled.column("features").cast(pa.large_list(pa.float64())))
    pq.write_table(shuffled, tmp_path / "mine.parquet")
    import_features(tmp_path / "mine.parquet", dataset, tmp_path / "again", name="clip")
    again = Pack.open(tmp_path / "again")
    assert again.meta == PackMeta(DIM, "float32", 64, pack.meta.general_words, False, {"regions": {"name": "clip"}})
    for post in dataset.posts:
        assert again.read(post.id).regions == pack.read(post.id).regions
        np.testing.assert_array_equal(again.read(post.id).features, pack.read(post.id).features)


def write_rows(path: Path, rows: list[dict[str, Any]], drop: tuple[str, ...] = ()) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLE).drop_columns(list(drop)), path)
    return path


def row(**changes: Any) -> dict[str, Any]:
    """A good row of post p2, which has both images."""
    good = {"post_id": "p2", "source": "phrase", "text": "a café", "word_start": 2, "word_end": 4}
    return good | {"x0": 0, "y0": 1, "x1": 30, "y1": 40, "score": 0.5, "features": [1.0, 2.0]} | changes


IMAGE = {"source": "image", "text": None, "word_start": None, "word_end": None}


def test_any_object_may_be_missing(tmp_path: Path) -> None:
    rows = [row(), row(**IMAGE, post_id="p0", x0=None, y0=None, x1=None, y1=None)]
    path = write_rows(tmp_path / "t.parquet", rows, ("image_index",))
    found = import_features(path, make_dataset(), tmp_path / "pack")
    assert found == Imported(6, 2, 4, 2, "float32")
    pack = Pack.open(tmp_path / "pack")
    assert pack.read("p0").regions == (Region("image", "", None, None, 0.5),)
    assert pack.read("p1").features.shape == (0, 2)
    assert pack.read("p2").features.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(post_id="p9"), r"row 1: a post that the dataset does not have \(found 'p9'\)"),
        (row(source="box"), r"row 1: a source is one of image, general, phrase \(found 'box'\)"),
        (row(**(IMAGE | {"source": "general", "text": "dog"})), r"row 1: a general word is one of person, .*'dog'"),
        (row(source="image"), "row 1: a phrase has word_start and word_end, other objects have none"),
        (row(word_start=None), "row 1: a phrase has word_start and word_end"),
        (row(score=None), "row 1: a phrase .* all have a score"),
        (row(word_start=3, word_end=3), r"row 1: no span or box: a span needs 0 <= start < end"),
        (row(word_end=5), r"row 1: post p2 has 4 words \(found word_end 5\)"),
        (row(x1=0), "row 1: no span or box: a box needs"),
        (row(x1=None), "row 1: no span or box"),
        (row(x1=101), r"row 1: the picture is 100 x 80 \(found a box \(0, 1, 101, 40\)\)"),
        (row(x1=60, image_index=1), r"row 1: the picture is 50 x 50"),
        (row(image_index=2), r"row 1: post p2 has 2 image\(s\) \(found image_index 2\)"),
        (row(features=[1.0]), r"row 1: features of another width than in the first row \(found 1\)"),
        (row(features=None), r"row 1: features of another width"),
        (row(features=[1.0, float("nan")]), "row 1: features that are no finite numbers"),
        (row(features=[1.0, None]), "row 1: features that are no finite numbers"),
        (row(word_start=0), "row 1: an object that row 0 has already"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    path = write_rows(tmp_path / "t.parquet", [row(word_start=0), bad])
    with pytest.raises(DataError, match=rf"t\.parquet {message}"):
        import_features(path, make_dataset(), tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


def test_a_bad_table_is_told(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.parquet", [row()], ("score", "text"))
    with pytest.raises(DataError, match=r"has the columns post_id.*\(found without score, text\)"):
        import_features(path, make_dataset(), tmp_path / "pack")
    table = pa.Table.from_pylist([row()], schema=TABLE)
    pq.write_table(table.append_column("imageindex", pa.array([1])), path)
    with pytest.raises(DataError, match="found with imageindex"):
        import_features(path, make_dataset(), tmp_path / "pack")
    at = TABLE.get_field_index("features")
    pq.write_table(table.set_column(at, "features", pa.array([1.0])), path)
    with pytest.raises(DataError, match=r"features holds lists of numbers \(found double\)"):
        import_features(path, make_dataset(), tmp_path / "pack")
    with pytest.raises(DataError, match="the table has no rows"):
        import_features(write_rows(path, []), make_dataset(), tmp_path / "pack")
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="no readable table of features"):
        import_features(path, make_dataset(), tmp_path / "pack")
    with pytest.raises(DataError, match="no such table"):
        import_features(tmp_path / "none", make_dataset(), tmp_path / "pack")

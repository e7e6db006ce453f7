"""A pack taken out and brought in again is the same pack; a table made elsewhere is checked row by row."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache.feature_table import TABLE, Imported, export_features, import_features
from cache.packs import Objects, Pack, PackMeta, write_pack
from cache.tables import Posts
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
    write_pack(folder, PackMeta(DIM, dtype, 4, words, True, {"regions": {"name": "synthetic"}}), objects)
    return Pack(folder)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_out_and_in_again_is_the_same_pack(tmp_path: Path, dtype: str) -> None:
    pack, dataset = make_pack(tmp_path / "pack", dtype), make_dataset()
    n_rows = export_features(pack, dataset, tmp_path / "table.parquet")
    found = import_features(tmp_path / "table.parquet", dataset, tmp_path / "again", n_buckets=4)
    assert found == Imported(6, n_rows, 0, DIM, dtype)
    again = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    assert again == {path.name: path.read_bytes() for path in pack.folder.iterdir()}
    export_features(Pack(tmp_path / "again"), dataset, tmp_path / "table2.parquet")
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
    again = Pack(tmp_path / "again")
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
    pack = Pack(tmp_path / "pack")
    assert pack.read("p0").regions == (Region("image", "", None, None, 0.5),)
    assert pack.read("p1").features.shape == (0, 2)
    assert pack.read("p2").features.tolist() == [[1, 2]]

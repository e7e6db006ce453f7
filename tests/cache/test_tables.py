"""Tables: what goes in comes out, equal rows are equal bytes, other layouts are refused."""

from dataclasses import astuple
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache import tables
from schema.errors import DataError
from schema.labels import DEFAULT_LABELS, LabelSet
from schema.records import Box, Image, Phrase, Post, PostPhrases, Region, Span

WORDS = ("Zoë", " ", "☕\ufe0f", "a")
POSTS = [
    Post("1", "train", WORDS, "Zoë   ☕\ufe0f a", ((0, 3), (4, 5), (6, 8), (9, 10)), ("B-PER", "O", "O", "I-LOC")),
    Post("2~2", "predict", ("x",), "x", ((0, 1),), None, (Image("a/b.png", "0" * 64, 30, 20, synthetic=True),)),
    Post("é", "dev", ("x",), "x", ((0, 1),), ("O",), (Image("m.jpg", state="missing", reason="no file"),) * 2),
]
PHRASES = [
    PostPhrases("1", (Phrase(Span(0, 1), "Zoë"), Phrase(Span(0, 4), "all", "NP-SBJ")), "chunks", 3),
    PostPhrases("2", ()),
]
BOXES = {
    "1": [
        Region("phrase", "Zoë", Span(0, 1), Box(0, 1, 2, 3, 1), 0.5, True, "synthetic@1"),
        Region("general", "person", None, Box(0, 0, 7, 7), -0.25, False, "synthetic@1"),
    ]
}


def test_posts_come_back(tmp_path: Path) -> None:
    labels = LabelSet({"Z": "last", "A": "first"}, {"B": "A"})
    tables.write_posts(tmp_path / "p", POSTS, labels, {"n": 3})
    found = tables.read_posts(tmp_path / "p")
    assert found == tables.Posts(POSTS, labels, {"n": 3})
    assert found.labels.types == ("Z", "A"), "the order of types gives tags their numbers"


def test_phrases_and_boxes_come_back(tmp_path: Path) -> None:
    tables.write_phrases(tmp_path / "p", PHRASES, {"parser": "x"})
    assert tables.read_phrases(tmp_path / "p") == (PHRASES, {"parser": "x"})
    tables.write_boxes(tmp_path / "b", BOXES.items(), {})
    boxes, _ = tables.read_boxes(tmp_path / "b")
    assert {post_id: list(map(astuple, regions)) for post_id, regions in boxes.items()} == {
        post_id: list(map(astuple, regions)) for post_id, regions in BOXES.items()
    }
    assert list(tables.read(tmp_path / "b", tables.BOXES)[0]) == [
        {"post_id": "1", "source": "phrase", "text": "Zoë", "start": 0, "end": 1, "image_index": 1}
        | {"x0": 0, "y0": 1, "x1": 2, "y1": 3, "score": 0.5, "clamped": True, "grounder": "synthetic@1"},
        {"post_id": "1", "source": "general", "text": "person", "start": None, "end": None, "image_index": 0}
        | {"x0": 0, "y0": 0, "x1": 7, "y1": 7, "score": -0.25, "clamped": False, "grounder": "synthetic@1"},
    ]
    tables.write_boxes(tmp_path / "b", [], {})
    assert tables.read_boxes(tmp_path / "b") == ({}, {})


def test_equal_rows_are_equal_bytes(tmp_path: Path) -> None:
    for name, meta in (("a", {"x": 1, "y": 2}), ("b", {"y": 2, "x": 1})):
        tables.write_posts(tmp_path / name, iter(POSTS), DEFAULT_LABELS, meta)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_any_tool_reads_them(tmp_path: Path) -> None:
    tables.write_posts(tmp_path / "p", POSTS, DEFAULT_LABELS, {})
    table = pq.read_table(tmp_path / "p")
    assert table.column("words").to_pylist() == [list(post.words) for post in POSTS]
    assert table.column("tags").to_pylist()[1] is None


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    tables.write_phrases(tmp_path / "p", PHRASES, {})
    with pytest.raises(
        DataError, match=r"p: the table has a different layout: version 1 with id, split, .* run its stage again"
    ):
        tables.read_posts(tmp_path / "p")
    pq.write_table(pq.read_table(tmp_path / "p").replace_schema_metadata(None), tmp_path / "q")
    with pytest.raises(DataError, match="found version None"):
        tables.read_phrases(tmp_path / "q")
    for junk in (b"{", b"[]", b'{"schema_version": 1}'):
        pq.write_table(pq.read_table(tmp_path / "p").replace_schema_metadata({tables.META: junk}), tmp_path / "q")
        with pytest.raises(DataError, match="the table has a different layout"):
            tables.read_phrases(tmp_path / "q")
    with pytest.raises(DataError, match="no such table; run the stage that writes it"):
        tables.read_phrases(tmp_path / "none")
    with pytest.raises(DataError, match=r"boxes\.parquet: no such table; `fmit ground` writes it"):
        tables.read_boxes(tmp_path / "boxes.parquet")


def test_a_damaged_table_is_an_error(tmp_path: Path) -> None:
    tables.write_posts(tmp_path / "p", POSTS * 50, DEFAULT_LABELS, {})
    data = (tmp_path / "p").read_bytes()
    for bad in (b"", data[:100], data[:-1], data[:50] + bytes([data[50] ^ 1]) + data[51:]):
        (tmp_path / "p").write_bytes(bad)
        with pytest.raises(DataError, match="not a readable table"):
            tables.read_posts(tmp_path / "p")


@pytest.mark.parametrize("row", [{"a": "x"}, {"a": 2**40}, {"a": [1]}])
def test_a_row_that_does_not_fit_is_an_error(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="a row does not fit the table"):
        tables.write(tmp_path / "t", [row], pa.schema({"a": pa.int32()}), {})
    assert list(tmp_path.iterdir()) == []

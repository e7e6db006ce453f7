"""Shards are opened by what they are."""

from pathlib import Path

import pytest

from cache.shard_directory import codec_for, codec_of, name_of, open_shard, producer_of
from cache.shards import ArrayCodec, Damaged, RowCodec
from tests.cache.rows import SCHEMA, fill, only_shelf


@pytest.mark.parametrize(("schema", "kind"), [(None, ArrayCodec), (SCHEMA, RowCodec)])
def test_a_shard_is_opened_as_its_kind(folder: Path, schema: object, kind: type) -> None:
    fill(folder, range(5), schema=schema)
    shelf = only_shelf(folder)
    (name,) = shelf.names()
    assert isinstance(codec_of(shelf, name), kind)
    assert codec_of(shelf, name).kind == shelf.folder.name
    with open_shard(shelf, name, "always") as reader:
        assert (reader.n_rows, len(reader.keys())) == (5, 5)
        assert producer_of(reader.note) == {"name": "test", "version": 1}
    assert isinstance(codec_for(shelf), kind)
    shelf.path(name).write_bytes(shelf.path(name).read_bytes()[:-9])
    with pytest.raises(Damaged), open_shard(shelf, name):
        pass
    shelf.path(name).unlink()
    with pytest.raises(FileNotFoundError), open_shard(shelf, name):
        pass


@pytest.mark.parametrize(
    ("producer", "name"),
    [({"name": "resnet50", "version": "1"}, "resnet50"), ({"parser": "embedded"}, "embedded"), ({}, "unnamed")],
)
def test_a_producers_name(producer: dict[str, str], name: str) -> None:
    assert name_of(producer) == name


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", '{"producer": 1}', "null"])
def test_a_note_that_says_nothing(note: str) -> None:
    assert producer_of(note) == {}

"""Shard directories: names, rights, quarantine, and errors that say what to do."""

import contextlib
import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from cache import keys
from cache.shard_directory import Shard, ShardDirectory, make_folder, make_note, shard_directories, unlink, write_file
from cache.shards import ArrayCodec, Damaged, RowCodec, open_shard
from schema.errors import StoreError
from tests.cache.rows import SCHEMA, fill, only_directory


def make_directory(folder: Path) -> ShardDirectory:
    directory = ShardDirectory(folder / "store" / "arrays", ".h5")
    directory.make()
    return directory


def test_a_shard_is_named_by_its_bytes(tmp_path: Path) -> None:
    directory = make_directory(tmp_path)
    name = directory.publish(b"abc")
    assert name == keys.digest_bytes(b"abc")
    assert directory.path(name).read_bytes() == b"abc"
    directory.path(name).write_bytes(b"broken")
    assert directory.publish(b"abc") == name
    assert directory.path(name).read_bytes() == b"abc", "publishing again repairs it"
    assert {name: stat.st_size for name, stat in directory.stats().items()} == {name: 3}


def test_only_shards_are_listed(tmp_path: Path) -> None:
    directory = make_directory(tmp_path)
    name = directory.publish(b"abc")
    others = [
        f"{name}.parquet",
        f"{name}.h5.bak",
        f"{name[:-1]}.h5",
        f"{name[:-1]}G.h5",
        f".{name}.h5",
        "x" * 64 + ".h5",
    ]
    for other in others:
        (directory.shards / other).write_text("")
    assert directory.names() == {name}
    assert [path.name for path in directory.foreign_files()] == sorted(others)
    assert ShardDirectory(tmp_path / "none", ".h5").names() == set()


def test_damage_goes_to_quarantine_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = make_directory(tmp_path)
    name = directory.publish(b"abc")
    with caplog.at_level(logging.WARNING):
        directory.set_aside(name, Damaged("a row does not match its digest"))
        directory.set_aside(name, Damaged("again"))
    assert directory.stats() == {}
    assert (directory.quarantine / f"{name}.h5").read_bytes() == b"abc"
    assert (directory.quarantine / f"{name}.txt").read_text() == "a row does not match its digest\n"
    assert f"{name}.h5: damaged shard (a row does not match its digest); moved to quarantine/" in caplog.messages[0]
    assert "already removed" in caplog.messages[1]


def test_on_a_read_only_disk_damage_stays_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    directory = make_directory(tmp_path)
    name = directory.publish(b"abc")

    def refuse(*arguments: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    directory.set_aside(name, Damaged("cut"))
    assert "it could not be moved: Read-only file system, its rows count as missing" in caplog.text
    with pytest.raises(StoreError, match=r"a shard cannot be written: Read-only file system; what was flushed is safe"):
        directory.publish(b"new")


def test_a_teams_folder_gives_its_rights_on(tmp_path: Path) -> None:
    team = tmp_path / "team"
    team.mkdir()
    team.chmod(0o2770)
    before = os.umask(0o077)
    try:
        directory = ShardDirectory(team / "regions" / "arrays", ".h5")
        directory.make()
        path = directory.path(directory.publish(b"abc"))
        write_file(tmp_path / "mine" / "x" / "file", b"abc", "")
    finally:
        os.umask(before)
    for folder in (directory.shards, directory.index, directory.quarantine, directory.folder, directory.folder.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o2770
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE((tmp_path / "mine" / "x").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "mine" / "x" / "file").stat().st_mode) == 0o600


def test_directories_are_found_below_any_folder(tmp_path: Path) -> None:
    for name in ("a/arrays", "a/rows-0123456789ab", "b/c/arrays", "b/other"):
        make_folder(tmp_path / name / "shards")
    found = [
        (directory.folder.relative_to(tmp_path).as_posix(), directory.suffix)
        for directory in shard_directories(tmp_path)
    ]
    assert found == [("a/arrays", ".h5"), ("a/rows-0123456789ab", ".parquet"), ("b/c/arrays", ".h5")]
    assert [directory.folder for directory in shard_directories(tmp_path / "a" / "arrays")] == [
        tmp_path / "a" / "arrays"
    ]
    assert shard_directories(tmp_path / "none") == []


def test_a_note_names_producer_and_versions_and_no_time() -> None:
    value = json.loads(make_note({"name": "resnet", "device": "cpu"}))
    assert value["producer"] == {"name": "resnet", "device": "cpu"}
    assert {"numpy", "h5py", "hdf5", "pyarrow", "python"} <= value["versions"].keys()
    assert make_note({"name": "resnet", "device": "cpu"}) == make_note({"device": "cpu", "name": "resnet"})


def test_removing_says_what_cannot_be_removed(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    unlink([tmp_path / "none", tmp_path / "folder", tmp_path / "link"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(StoreError, match="a file of the store cannot be removed: Not a directory"):
        unlink([tmp_path / "file" / "x"])


@pytest.mark.parametrize(("schema", "kind"), [(None, ArrayCodec), (SCHEMA, RowCodec)])
def test_a_survey_opens_shards_as_their_kind(folder: Path, schema: object, kind: type) -> None:
    fill(folder, range(5), schema=schema)
    directory = only_directory(folder)
    (shard,) = directory.survey(check="always", read_keys=True)
    path = directory.path(shard.name)
    assert (shard.size, shard.n_rows, shard.error) == (path.stat().st_size, 5, None)
    assert len(shard.keys) == 5
    assert shard.producer == {"name": "test", "version": 1, "producer": "test"}
    with contextlib.closing(open_shard(path)) as reader:
        assert isinstance(reader.codec, kind)
        assert reader.codec.kind == directory.folder.name
    path.write_bytes(path.read_bytes()[:-9])
    (cut,) = directory.survey()
    assert isinstance(cut.error, Damaged)
    path.unlink()
    assert list(directory.survey([shard.name])) == []


@pytest.mark.parametrize(
    ("producer", "name"),
    [({"name": "resnet50", "version": "1"}, "resnet50"), ({"parser": "embedded"}, "embedded"), ({}, "unnamed")],
)
def test_a_producers_name(producer: dict[str, str], name: str) -> None:
    assert Shard("", 0, make_note(producer)).producer == {**producer, "producer": name}


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", '{"producer": 1}', "null"])
def test_a_note_without_a_producer(note: str) -> None:
    assert Shard("", 0, note).producer == {"producer": "unnamed"}

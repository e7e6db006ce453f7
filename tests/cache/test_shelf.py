"""Shelves: names, rights, quarantine, and errors that say what to do."""

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from cache import keys
from cache.shard_directory import Shelf, file_mode, make_folder, note, shelves, unlink
from schema.errors import StoreError


def make_shelf(folder: Path) -> Shelf:
    shelf = Shelf(folder / "store" / "arrays", ".h5")
    shelf.make()
    return shelf


def test_a_shard_is_named_by_its_bytes(tmp_path: Path) -> None:
    shelf = make_shelf(tmp_path)
    name = shelf.publish(b"abc")
    assert name == keys.digest_bytes(b"abc")
    assert shelf.path(name).read_bytes() == b"abc"
    shelf.path(name).write_bytes(b"broken")
    assert shelf.publish(b"abc") == name
    assert shelf.path(name).read_bytes() == b"abc", "publishing again mends it"
    assert shelf.names() == {name: 3}


def test_only_shards_are_listed(tmp_path: Path) -> None:
    shelf = make_shelf(tmp_path)
    name = shelf.publish(b"abc")
    others = [
        f"{name}.parquet",
        f"{name}.h5.bak",
        f"{name[:-1]}.h5",
        f"{name[:-1]}G.h5",
        f".{name}.h5",
        "x" * 64 + ".h5",
    ]
    for other in others:
        (shelf.shards / other).write_text("")
    assert shelf.listed() == {name}
    assert [path.name for path in shelf.strays()] == sorted(others)
    assert Shelf(tmp_path / "none", ".h5").names() == {}


def test_damage_goes_to_quarantine_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = make_shelf(tmp_path)
    name = shelf.publish(b"abc")
    with caplog.at_level(logging.WARNING):
        shelf.set_aside(name, "a row does not match its digest")
        shelf.set_aside(name, "again")
    assert shelf.names() == {}
    assert (shelf.quarantine / f"{name}.h5").read_bytes() == b"abc"
    assert (shelf.quarantine / f"{name}.txt").read_text() == "a row does not match its digest\n"
    assert f"{name}.h5: damaged shard (a row does not match its digest); moved to quarantine/" in caplog.messages[0]
    assert "gone by now" in caplog.messages[1]


def test_on_a_read_only_disk_damage_stays_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = make_shelf(tmp_path)
    name = shelf.publish(b"abc")

    def refuse(*arguments: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    shelf.set_aside(name, "cut")
    assert "it stays in its place: Read-only file system, its rows count as missing" in caplog.text
    with pytest.raises(StoreError, match=r"a shard cannot be written: Read-only file system; what was flushed is safe"):
        shelf.publish(b"new")


def test_a_teams_folder_gives_its_rights_on(tmp_path: Path) -> None:
    team = tmp_path / "team"
    team.mkdir()
    team.chmod(0o2770)
    before = os.umask(0o077)
    try:
        shelf = Shelf(team / "regions" / "arrays", ".h5")
        shelf.make()
        path = shelf.path(shelf.publish(b"abc"))
        make_folder(tmp_path / "mine" / "x")
    finally:
        os.umask(before)
    for folder in (shelf.shards, shelf.index, shelf.quarantine, shelf.folder, shelf.folder.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o2770
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE((tmp_path / "mine" / "x").stat().st_mode) == 0o700
    assert (file_mode(team), file_mode(tmp_path / "mine")) == (0o660, None)


def test_shelves_are_found_below_any_folder(tmp_path: Path) -> None:
    for name in ("a/arrays", "a/rows-0123456789ab", "b/c/arrays", "b/other"):
        make_folder(tmp_path / name / "shards")
    found = [(shelf.folder.relative_to(tmp_path).as_posix(), shelf.suffix) for shelf in shelves(tmp_path)]
    assert found == [("a/arrays", ".h5"), ("a/rows-0123456789ab", ".parquet"), ("b/c/arrays", ".h5")]
    assert [shelf.folder for shelf in shelves(tmp_path / "a" / "arrays")] == [tmp_path / "a" / "arrays"]
    assert shelves(tmp_path / "none") == []


def test_a_note_names_producer_and_versions_and_no_time() -> None:
    value = json.loads(note({"name": "resnet", "device": "cpu"}))
    assert value["producer"] == {"name": "resnet", "device": "cpu"}
    assert {"numpy", "h5py", "hdf5", "pyarrow", "python"} <= value["versions"].keys()
    assert note({"name": "resnet", "device": "cpu"}) == note({"device": "cpu", "name": "resnet"})


def test_removing_says_what_cannot_be_removed(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    unlink([tmp_path / "none", tmp_path / "folder", tmp_path / "link"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(StoreError, match="a file of the store cannot be removed: Not a directory"):
        unlink([tmp_path / "file" / "x"])

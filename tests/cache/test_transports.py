"""Transports: a remote shows whole files only, and its refusals become errors that say what to do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cache.transports import FolderTransport, Transport, Unreachable, UrlTransport, transport_of
from schema.errors import StoreError
from tests.cache import remote_faults


@pytest.fixture(name="remote", params=["folder", "memory", "flaky"])
def remote_(request: pytest.FixtureRequest, folder: Path) -> Iterator[Transport]:
    remote_faults.reset()
    yield transport_of(folder / "r" if request.param == "folder" else f"{request.param}://r/x")
    remote_faults.reset()


def test_files_go_and_come_back(remote: Transport, folder: Path) -> None:
    assert remote.files() == {}
    (folder / "mine").write_bytes(b"abc" * 1000)
    remote.send(folder / "mine", "a/b/c.h5")
    remote.write(b"keys", "a/k.keys")
    remote.write(b"other", "a/k.keys")
    assert remote.files() == {"a/b/c.h5": 3000, "a/k.keys": 5}
    remote.fetch("a/b/c.h5", folder / "theirs")
    assert (folder / "theirs").read_bytes() == b"abc" * 1000
    assert remote.read("a/k.keys") == b"other"
    remote.remove("a/k.keys")
    assert remote.files() == {"a/b/c.h5": 3000}


def test_what_has_gone_is_file_not_found(remote: Transport, folder: Path) -> None:
    remote.write(b"x", "a")
    with pytest.raises(FileNotFoundError):
        remote.read("none")
    with pytest.raises(FileNotFoundError):
        remote.fetch("none", folder / "x")
    with pytest.raises(FileNotFoundError):
        remote.send(folder / "gone", "b")
    assert remote.files() == {"a": 1}


def test_protocols_choose_the_way() -> None:
    assert isinstance(transport_of("/a/b"), FolderTransport)
    assert isinstance(transport_of("file:///a/b"), FolderTransport)
    stores = [transport_of(url) for url in ("memory://a/b", "flaky://a/b")]
    assert [isinstance(one, UrlTransport) and one._whole for one in stores] == [True, False]


def test_a_folder_that_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "r").write_text("in the way")
    (folder / "mine").write_text("x")
    remote = transport_of(folder / "r")
    for work in (lambda: remote.send(folder / "mine", "a/b"), lambda: remote.write(b"x", "a/b")):
        with pytest.raises(StoreError, match="the remote folder cannot be written"):
            work()


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ConnectionResetError("reset"), Unreachable, "ConnectionResetError: reset; check address, rights and network"),
        (TimeoutError("late"), Unreachable, "TimeoutError: late; check address"),
        (PermissionError(13, "denied"), Unreachable, "denied; check address"),
        (OSError(28, "No space left on device"), StoreError, "No space left on device; free space"),
        (EOFError("cut"), Unreachable, "EOFError: cut"),
    ],
)
def test_refusals_become_errors(folder: Path, error: Exception, kind: type, message: str) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Any:
            raise error

    remote = UrlTransport(Refusing(), "r", whole=True)
    (folder / "mine").write_text("x")
    for work in (remote.files, lambda: remote.send(folder / "mine", "a"), lambda: remote.read("a")):
        with pytest.raises(kind, match=message):
            work()


def test_a_host_that_refuses_at_once_is_named() -> None:
    """Some file systems connect when they are made, before anything is asked of them."""
    with pytest.raises(Unreachable, match=r"ftp://127\.0\.0\.1:1/x: .*refused; check address, rights and network"):
        transport_of("ftp://127.0.0.1:1/x")


def test_a_bug_is_no_refusal() -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        UrlTransport(Broken(), "r", whole=True).read("a")


@pytest.mark.parametrize("url", ["", "://", "s3://", "://x", "1x://y"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(StoreError, match=r"no address of a store \(found .*\); give a folder, or a URL with a place"):
        transport_of(url)


def test_what_can_only_be_read_takes_nothing(folder: Path) -> None:
    (folder / "mine").write_bytes(b"x")
    remote = transport_of("http://127.0.0.1:9/x")
    with pytest.raises(StoreError, match=r"nothing can be sent .*; this kind of address can only be pulled from"):
        remote.remove("a")

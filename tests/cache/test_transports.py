"""Transports: a remote shows whole files only, and its refusals become errors that say what to do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cache.transports import FolderTransport, Transport, Unreachable, transport_of
from schema.errors import StoreError
from tests.cache import remote_faults


@pytest.fixture(name="remote", params=["folder", "memory", "flaky"])
def remote_(request: pytest.FixtureRequest, folder: Path) -> Iterator[Transport]:
    remote_faults.reset()
    yield transport_of(folder / "r" if request.param == "folder" else f"{request.param}://r/x")
    remote_faults.reset()


def test_files_go_and_come_back(remote: Transport) -> None:
    assert remote.files() == {}
    remote.write(b"abc" * 1000, "a/b/c.h5")
    remote.write(b"keys", "a/k.keys")
    remote.write(b"other", "a/k.keys")
    assert remote.files() == {"a/b/c.h5": 3000, "a/k.keys": 5}
    assert remote.read("a/b/c.h5") == b"abc" * 1000
    assert remote.read("a/k.keys") == b"other"
    remote.remove("a/k.keys")
    assert remote.files() == {"a/b/c.h5": 3000}


def test_what_has_gone_is_file_not_found(remote: Transport) -> None:
    remote.write(b"x", "a")
    with pytest.raises(FileNotFoundError):
        remote.read("none")
    with pytest.raises(FileNotFoundError):
        remote.remove("none")
    assert remote.files() == {"a": 1}


def test_protocols_choose_the_transport() -> None:
    assert isinstance(transport_of("/a/b"), FolderTransport)
    assert isinstance(transport_of("file:///a/b"), FolderTransport)
    stores = [transport_of(url) for url in ("memory://a/b", "flaky://a/b")]
    assert [one._atomic_uploads for one in stores] == [True, False]
    assert not any(isinstance(one, FolderTransport) for one in stores)


def test_a_folder_that_refuses(folder: Path) -> None:
    (folder / "r").write_text("a file")
    with pytest.raises(StoreError, match="the remote folder cannot be written"):
        transport_of(folder / "r").write(b"x", "a/b")
    assert transport_of(folder / "r").files() == {}


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
def test_refusals_become_errors(error: Exception, kind: type, message: str) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Any:
            raise error

    remote = Transport(Refusing(), "r", atomic_uploads=True)
    for work in (remote.files, lambda: remote.write(b"x", "a"), lambda: remote.read("a")):
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
        Transport(Broken(), "r", atomic_uploads=True).read("a")


@pytest.mark.parametrize("url", ["", "://", "s3://", "://x", "1x://y"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(
        StoreError, match=r"not the address of a store \(found .*\); give a folder, or a URL with a path"
    ):
        transport_of(url)


def test_what_can_only_be_read_takes_nothing() -> None:
    remote = transport_of("http://127.0.0.1:9/x")
    with pytest.raises(StoreError, match=r"files cannot be sent to .*; this kind of address can only be pulled from"):
        remote.remove("a")

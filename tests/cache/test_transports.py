"""Files of a remote: it shows whole files only, and its refusals become errors that say what to do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from cache.remotes import Remote, Unreachable, connect
from schema.errors import StoreError
from tests.cache import remote_faults


@pytest.fixture(name="remote", params=["folder", "memory", "flaky"])
def remote_(request: pytest.FixtureRequest, folder: Path) -> Iterator[Remote]:
    remote_faults.reset()
    yield Remote(folder / "r" if request.param == "folder" else f"{request.param}://r/x", may_be_empty=True)
    remote_faults.reset()


def test_files_go_and_come_back(remote: Remote) -> None:
    assert remote.files == {}
    remote.write(b"abc" * 1000, "a/b/c.h5")
    remote.write(b"keys", "a/k.keys")
    remote.write(b"other", "a/k.keys")
    assert remote.list_files() == {"a/b/c.h5": 3000, "a/k.keys": 5}
    assert remote.read("a/b/c.h5") == b"abc" * 1000
    assert remote.read("a/k.keys") == b"other"
    remote.remove("a/k.keys")
    assert remote.list_files() == {"a/b/c.h5": 3000}


def test_what_has_gone_is_file_not_found(remote: Remote) -> None:
    remote.write(b"x", "a")
    with pytest.raises(FileNotFoundError):
        remote.read("none")
    with pytest.raises(FileNotFoundError):
        remote.remove("none")
    assert remote.list_files() == {"a": 1}


def test_protocols_choose_the_file_system() -> None:
    for url in ("/a/b", "file:///a/b"):
        system, root, is_atomic = connect(url)
        assert (isinstance(system, LocalFileSystem), root, is_atomic) == (True, "/a/b", True)
    stores = [connect(url) for url in ("memory://a/b", "flaky://a/b")]
    assert [is_atomic for _, _, is_atomic in stores] == [True, False]
    assert not any(isinstance(system, LocalFileSystem) for system, _, _ in stores)


def test_a_folder_that_refuses(folder: Path) -> None:
    (folder / "r").write_text("a file")
    remote = Remote(folder / "r", may_be_empty=True)
    with pytest.raises(StoreError, match="the remote folder cannot be written"):
        remote.write(b"x", "a/b")
    assert remote.files == {}


class Raising:
    """A file system of which every use raises an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            ConnectionResetError("reset"),
            Unreachable,
            "ConnectionResetError: reset; check the address, permissions and network",
        ),
        (TimeoutError("late"), Unreachable, "TimeoutError: late; check the address"),
        (PermissionError(13, "denied"), Unreachable, "denied; check the address"),
        (OSError(28, "No space left on device"), StoreError, "No space left on device; free space"),
        (EOFError("cut"), Unreachable, "EOFError: cut"),
    ],
)
def test_refusals_become_errors(error: Exception, kind: type, message: str) -> None:
    remote = Remote("memory://refusing/x", may_be_empty=True)
    remote._system = Raising(error)
    for work in (remote.list_files, lambda: remote.write(b"x", "a"), lambda: remote.read("a")):
        with pytest.raises(kind, match=message):
            work()


def test_errors_of_a_backend_are_refusals() -> None:
    from botocore.exceptions import EndpointConnectionError

    remote = Remote("memory://refusing/x", may_be_empty=True)
    remote._system = Raising(EndpointConnectionError(endpoint_url="http://x"))
    with pytest.raises(Unreachable, match="EndpointConnectionError: Could not connect"):
        remote.read("a")


def test_a_host_that_refuses_at_once_is_named() -> None:
    """Some file systems connect when they are made, before anything is asked of them."""
    with pytest.raises(
        Unreachable, match=r"ftp://127\.0\.0\.1:1/x: .*refused; check the address, permissions and network"
    ):
        connect("ftp://127.0.0.1:1/x")


def test_a_bug_is_no_refusal() -> None:
    remote = Remote("memory://broken/x", may_be_empty=True)
    remote._system = Raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        remote.read("a")


@pytest.mark.parametrize("url", ["", "://", "s3://", "://x", "1x://y"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(
        StoreError, match=r"not the address of a store \(found .*\); give a folder, or a URL with a path"
    ):
        connect(url)


def test_what_can_only_be_read_takes_nothing() -> None:
    remote = Remote("memory://r/x", may_be_empty=True)
    remote._system, remote._root, _ = connect("http://127.0.0.1:9/x")
    with pytest.raises(StoreError, match=r"files cannot be sent to .*; this kind of address can only be pulled from"):
        remote.remove("a")

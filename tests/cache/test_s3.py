"""A bucket as a remote: moto's S3 server, behind a proxy that cuts connections."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

from cache import remotes
from cache.maintenance import verify
from cache.remotes import TransferReport, pull, push
from cache.store import Store
from schema.errors import StoreError
from tests.cache.rows import array_of, fill, key_of, same
from tests.cache.test_remotes import assert_holds


class CuttingProxy:
    """Passes connections on to a server, and cuts the next `n_cuts` after `n_bytes` of request or answer."""

    def __init__(self, port: int) -> None:
        self._target, self.n_cuts, self.n_bytes, self.url = port, 0, 0, ""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", self._target))
            cut = self.n_cuts > 0
            self.n_cuts -= cut
            limit = self.n_bytes if cut else None
            threading.Thread(target=self._pass, args=(client, upstream, limit), daemon=True).start()
            threading.Thread(target=self._pass, args=(upstream, client, limit), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        sent = 0
        try:
            while data := source.recv(4096):
                if limit is not None and sent + len(data) > limit:
                    break
                sink.sendall(data)
                sent += len(data)
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self._server.close()


@pytest.fixture(name="s3")
def s3_(monkeypatch: pytest.MonkeyPatch) -> Iterator[CuttingProxy]:
    """moto's S3 server behind a proxy that can cut connections; `url` is a folder of a bucket."""
    pytest.importorskip("s3fs", reason="pip install 'fmit[s3]' to test S3")
    moto = pytest.importorskip("moto.server", reason="pip install 'moto[s3,server]' to test S3")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    proxy = CuttingProxy(server._server.server_port)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(remotes, "N_TRIES", 1)
    monkeypatch.setattr(remotes, "PAUSE_S", 0.0)
    proxy.url = f"s3://team-{proxy.port}/store"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(f"team-{proxy.port}")
    yield proxy
    proxy.close()
    server.stop()


def test_s3_holds_what_was_pushed(folder: Path, s3: CuttingProxy) -> None:
    names = fill(folder / "a" / "s", range(30), n_flushes=3)
    assert push(folder / "a", s3.url).n_shards == 3
    assert push(folder / "a", s3.url) == TransferReport(0, 0, 3)
    assert pull(folder / "b", s3.url, names[:3]).n_shards == 1
    assert pull(folder / "b", s3.url).n_shards == 2
    assert_holds(folder / "b" / "s", names)


def test_s3_connections_that_are_cut(folder: Path, s3: CuttingProxy) -> None:
    rng = np.random.default_rng(0)
    names = fill(folder / "a" / "s", range(30), n_flushes=3)
    for round_ in range(3):
        s3.n_cuts, s3.n_bytes = int(rng.integers(1, 4)), int(rng.integers(0, 6000))
        for work in (lambda: push(folder / "a", s3.url), lambda: pull(folder / "b", s3.url)):
            with contextlib.suppress(StoreError):
                work()
        if round_ % 2:
            assert verify(folder).clean
    s3.n_cuts = 0
    push(folder / "a", s3.url)
    pull(folder / "b", s3.url)
    assert_holds(folder / "b" / "s", names)
    s3.n_cuts, s3.n_bytes = 10**6, 0
    with pytest.raises(StoreError, match=r"cannot list the remote: .*then run the same command again"):
        pull(folder / "c", s3.url)


def test_two_people_push_to_a_bucket_at_once(folder: Path, s3: CuttingProxy) -> None:
    """Rows that both have, and a shard that both have: nothing is lost."""
    for name, indexes in (("a", range(20)), ("b", range(10, 30))):
        fill(folder / name / "s", indexes)
        fill(folder / name / "s", range(40, 45))
    with ThreadPoolExecutor(2) as both:
        for moved in both.map(lambda name: push(folder / name, s3.url), ("a", "b")):
            assert moved.n_shards + moved.n_present == 2
    assert pull(folder / "c", s3.url).n_shards == 3
    assert_holds(folder / "c" / "s", [key_of(index) for index in (*range(30), *range(40, 45))])


def test_a_bucket_forgets(folder: Path, s3: CuttingProxy) -> None:
    names = fill(folder / "a" / "s", range(20), n_flushes=2)
    push(folder / "a", s3.url)
    assert (remotes.purge(s3.url, names[:3]).n_rows, remotes.purge(s3.url, names[:3]).n_rows) == (3, 0)
    pull(folder / "b", s3.url)
    with Store(folder / "b" / "s") as store:
        assert store.missing(names) == names[:3]
        assert all(same(*pair) for pair in zip(store.get(names[3:]), map(array_of, names[3:]), strict=True))
    with pytest.raises(StoreError, match=r"this address has no store \(found nothing\)"):
        pull(folder / "c", s3.url + "/nothing")

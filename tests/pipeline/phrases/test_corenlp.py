"""Against a small server that speaks CoreNLP's answer format."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote_plus

import pytest

from pipeline.phrases.corenlp import CoreNlpParser, ServerError, constituents


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        text = unquote_plus(self.rfile.read(int(self.headers["Content-Length"])).decode()).removeprefix("data=")
        words = text.split()
        if "slow" in words:
            time.sleep(1)
        status = 500 if "broken" in words else 200
        leaves = "".join(f"(NN {word})" for word in (words[1:] if "lost" in words else words))
        body = json.dumps({"sentences": [{"parse": f"(ROOT (S (NP-SBJ {leaves})))"}]}) if status == 200 else "oops"
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_given_words_come_back_as_constituents(url):
    found = CoreNlpParser(url, 5, "4.5").parse([["the", "dog"], ["Rome"]])
    assert [one.spans for one in found] == [((0, 2, "S"), (0, 2, "NP-SBJ")), ((0, 1, "S"), (0, 1, "NP-SBJ"))]


def test_long_sentences_go_in_parts(url):
    (found,) = CoreNlpParser(url, 5, "4.5").parse([["w"] * 150])
    assert found.fallback == "split"
    assert max(end for _, end, _ in found.spans) == 150


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("broken", "no parse in the server's answer"),
        ("lost", "the server did not keep the words"),
        ("slow", r"no answer in time \(found 0.2 s\); raise phrases.timeout_s"),
    ],
)
def test_what_goes_wrong_is_named(url, word, message):
    with pytest.raises(ServerError, match=message):
        CoreNlpParser(url, 0.2, "4.5").parse([["a", word]])


def test_no_server_at_all():
    with pytest.raises(ServerError, match=r"no CoreNLP server answers.*StanfordCoreNLPServer"):
        CoreNlpParser("http://127.0.0.1:9", 1, "4.5").parse([["a"]])


def test_constituents_in_preorder():
    from nltk.tree import Tree

    tree = Tree.fromstring("(ROOT (S (NP (DT the) (NN dog)) (VP (VBZ barks))))")
    assert constituents(tree) == [(0, 3, "S"), (0, 2, "NP"), (2, 3, "VP")]

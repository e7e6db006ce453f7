"""Against a small server that speaks CoreNLP's answer format."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.phrases.config import PhrasesConfig, open_parser
from pipeline.phrases.corenlp import CoreNlpParser, ServerError, constituents

BRACKETS = {"(": "-LRB-", ")": "-RRB-"}  # as CoreNLP writes them


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()  # plain text: a server decodes no %
        words = text.split()
        fault = words[-1].removeprefix("fault:") if words[-1].startswith("fault:") else ""
        if fault == "slow":
            time.sleep(1)
        status = 500 if fault == "broken" else 200
        named = [BRACKETS.get(word, word) for word in (words[1:] if fault == "lost" else words)]
        parse = f"(ROOT (S (NP-SBJ {''.join(f'(NN {word})' for word in named)})))"
        answers = {"page": "<html>busy</html>", "other": "{}", "none": '{"sentences": []}', "broken": "oops"}
        answers["twice"] = json.dumps({"sentences": [{"parse": parse}] * 2})
        answers["cut"] = '{"sentences": [{"par'
        body = answers.get(fault, json.dumps({"sentences": [{"parse": parse}]}))
        self.send_response(status)
        if fault == "cut":
            self.send_header("Content-Length", "500")
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


def test_the_setting_leads_to_the_server(url):
    parser = open_parser(PhrasesConfig(parser="corenlp", url=url, model="4.5.7"))
    (found,) = parser.parse([["(", "Zoë", ")", "100%", "a+b"]])
    assert found.spans == ((0, 5, "S"), (0, 5, "NP-SBJ"))
    assert parser.identity == {"parser": "corenlp", "model": "4.5.7", "version": "1"}, "no address: keys hold none"


def test_long_sentences_go_in_parts(url):
    (found,) = CoreNlpParser(url, 5, "4.5").parse([["w"] * 150])
    assert found.fallback == "split"
    assert max(end for _, end, _ in found.spans) == 150


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("broken", "no parse in the server's answer"),
        ("lost", "the server changed the words"),
        ("page", "no parse in the server's answer"),
        ("other", "no parse in the server's answer"),
        ("cut", "no CoreNLP server answers|no parse in the server's answer"),
        ("none", r"the server changed the words \(found 0 tree\(s\) of 0 words for 2 words"),
        ("twice", r"the server changed the words \(found 2 tree\(s\) of 4 words for 2 words"),
        ("slow", r"no answer in time \(found 0.2 s\); raise phrases.timeout_s"),
    ],
)
def test_what_goes_wrong_is_named(url, fault, message):
    with pytest.raises(ServerError, match=message):
        CoreNlpParser(url, 0.2, "4.5").parse([["a", f"fault:{fault}"]])


def test_no_server_at_all():
    with pytest.raises(ServerError, match=r"no CoreNLP server answers.*StanfordCoreNLPServer"):
        CoreNlpParser("http://127.0.0.1:9", 1, "4.5").parse([["a"]])


def test_constituents_in_preorder():
    from nltk.tree import Tree

    tree = Tree.fromstring("(ROOT (S (NP (DT the) (NN dog)) (VP (VBZ barks))))")
    assert constituents(tree) == [(0, 3, "S"), (0, 2, "NP"), (2, 3, "VP")]

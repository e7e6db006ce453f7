"""The paper's parser: a running Stanford CoreNLP server, through NLTK's client.

Start one with `java -mx4g -cp '*' edu.stanford.nlp.pipeline.StanfordCoreNLPServer -port 9000 -timeout 60000`.
"""

from collections.abc import Sequence

import requests
from nltk.parse.corenlp import CoreNLPParser
from nltk.tree import Tree

from pipeline.phrases.parser import ROOTS, Node, Parsed, parse_in_parts
from schema.errors import FmitError

VERSION = "1"
MAX_WORDS = 100  # of one request: a chart parser's time grows with the cube
PROPERTIES = {"tokenize.whitespace": "true", "ssplit.eolonly": "true"}  # a request is one sentence of given words
START = "start it: java -mx4g -cp '*' edu.stanford.nlp.pipeline.StanfordCoreNLPServer -port 9000"


class ServerError(FmitError):
    """The CoreNLP server does not answer, or its answer contains no tree."""


class CoreNlpParser:
    """See `pipeline.phrases.parser.Parser`. `model` names the server's release, which the server does not report."""

    def __init__(self, url: str, timeout_s: float, model: str) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._client = CoreNLPParser(url=url)
        self.identity = {"parser": "corenlp", "model": model, "version": VERSION}  # no address: it changes no answer

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        """See `Parser.parse`; raises ServerError."""
        return parse_in_parts(sentences, lambda parts: [self._request(words) for words in parts], MAX_WORDS)

    def _request(self, words: Sequence[str]) -> list[Node]:
        try:
            answer = self._client.api_call(" ".join(words), properties=PROPERTIES, timeout=self._timeout_s)
            trees = [self._client.make_tree(sentence) for sentence in answer["sentences"]]
        except requests.Timeout:
            raise self._error("no answer in time", f"{self._timeout_s:g} s", "raise phrases.timeout_s") from None
        except requests.ConnectionError as error:
            raise self._error("no CoreNLP server answers", str(error), START) from None
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise self._error("no parse in the server's answer", repr(error), "see the server's own log") from None
        if len(trees) != 1 or len(trees[0].leaves()) != len(words):
            n_leaves = sum(len(tree.leaves()) for tree in trees)
            found = f"{len(trees)} tree(s) of {n_leaves} words for {len(words)} words: {' '.join(words)[:60]!r}"
            raise self._error("the server changed the words", found, "does it honour tokenize.whitespace?")
        return constituents(trees[0])

    def _error(self, what: str, found: str, todo: str) -> ServerError:
        return ServerError(what, where=self._url, found=found, todo=todo)


def constituents(tree: Tree, first: int = 0) -> list[Node]:
    """Nodes above part-of-speech tags, in preorder; `first` is the index of the tree's first word."""
    if isinstance(tree[0], str):
        return []
    nodes = [] if tree.label() in ROOTS else [(first, first + len(tree.leaves()), tree.label())]
    for child in tree:
        nodes += constituents(child, first)
        first += len(child.leaves())
    return nodes

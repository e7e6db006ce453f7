"""Noun chunks of a spaCy pipeline: flat base phrases, from its dependency parse."""

from collections.abc import Sequence

import spacy
from spacy.tokens import Doc

from cache.models import ModelRef, digest_of
from pipeline.phrases.parser import LazyParser, Node, Parsed, parse_in_parts
from schema.errors import WeightsError
from vision.torch_files import DAMAGED, reason

VERSION = "1"
MAX_WORDS = 1_000  # of one document: time and memory of spaCy's parser are linear


class NounChunkParser:
    """See `pipeline.phrases.parser.Parser`. Every chunk is an `NP`. Raises WeightsError for a pipeline without them."""

    def __init__(self, name: str, identity: dict[str, str]) -> None:
        self.identity = identity
        try:
            self._pipeline = spacy.load(name)
        except (*DAMAGED, OSError, ImportError) as error:
            what, found = f"cannot load the spaCy pipeline {name!r}", " ".join(reason(error).split())
            todo = f"give its folder as model, or install it: python -m spacy download {name}"
            raise WeightsError(what, found=found, todo=todo) from None
        if "parser" not in self._pipeline.pipe_names:
            found = ", ".join(self._pipeline.pipe_names) or "no components"
            todo = "use a pipeline with one, such as en_core_web_sm"
            raise WeightsError(f"the spaCy pipeline {name!r} has no dependency parser", found=found, todo=todo)
        if self._pipeline.vocab.get_noun_chunks is None:
            what, found = "spaCy has no noun chunks in this language", str(self._pipeline.lang)
            todo = "use a pipeline of a language with noun chunks, or parser: benepar"
            raise WeightsError(what, where=name, found=found, todo=todo)

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        """See `Parser.parse`. Documents are parsed one by one, so they do not influence each other."""
        return parse_in_parts(sentences, lambda parts: [self._chunks(words) for words in parts], MAX_WORDS)

    def _chunks(self, words: Sequence[str]) -> list[Node]:
        doc = self._pipeline(Doc(self._pipeline.vocab, words=list(words)))
        return [(chunk.start, chunk.end, "NP") for chunk in doc.noun_chunks]


def open_parser(name: str) -> LazyParser:
    """The parser of an installed pipeline or of a pipeline's folder; raises WeightsError."""
    folder = ModelRef(name, "parser", "spacy").locate()
    identity = {"parser": "noun-chunks", "weights": digest_of("spacy", folder), "version": VERSION}
    return LazyParser(identity, lambda: NounChunkParser(name, identity))

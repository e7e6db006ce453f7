"""From parameters to a parser. A parser's module, and what it needs, is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.parser import Parser
from schema.errors import WeightsError


def build_parser(config: PhrasesConfig) -> Parser:
    """The parser that the parameters name, ready to use.

    Raises WeightsError for a model that is missing, damaged, or another one than `config.digest` names.
    """
    parser = PARSERS[config.parser](config)
    found = parser.identity.get("weights", "")
    if config.digest and config.digest != found:
        raise WeightsError(
            f"the {config.parser} parser is not the one that phrases.digest names",
            where=config.model,
            found=found or "a parser whose model has no digest",
            todo="fetch the model again, or name the digest of the one you mean",
        )
    return parser


def _embedded(config: PhrasesConfig) -> Parser:
    from pipeline.phrases import span_parser

    return span_parser.load(config.model_ref().locate())


def _benepar(config: PhrasesConfig) -> Parser:
    from pipeline.phrases import benepar

    return benepar.load(config.model)


def _corenlp(config: PhrasesConfig) -> Parser:
    from pipeline.phrases.corenlp import CoreNlpParser

    return CoreNlpParser(config.url, config.timeout_s, config.model)


def _noun_chunks(config: PhrasesConfig) -> Parser:
    from pipeline.phrases import noun_chunks

    return noun_chunks.load(config.model)


PARSERS: dict[str, Callable[[PhrasesConfig], Parser]] = {
    "embedded": _embedded,
    "benepar": _benepar,
    "corenlp": _corenlp,
    "noun-chunks": _noun_chunks,
}

"""All parsers by name. A parser's module, and the library it needs, is imported when the parser is asked for."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.parser import LazyParser, Parser
from schema.errors import WeightsError


def open_parser(config: PhrasesConfig) -> LazyParser:
    """The parser that the parameters name, known by its digests; its model is loaded for the first sentence.

    Raises WeightsError for a model that is missing, or another one than `config.digest` names.
    """
    parser = PARSERS[config.parser](config)
    digest = parser.identity.get("weights", "")
    if config.digest and config.digest != digest:
        raise WeightsError(
            f"the {config.parser} parser is not the one that phrases.digest names",
            where=config.model,
            found=digest or "a parser whose model has no digest",
            todo="fetch the model again, or name the digest of the one you mean",
        )
    return parser


def build_parser(config: PhrasesConfig) -> Parser:
    """The parser that the parameters name, loaded; raises WeightsError also for a model that cannot be read."""
    return open_parser(config).load()


def _embedded(config: PhrasesConfig) -> LazyParser:
    from pipeline.phrases.span_parser import open_parser

    return open_parser(config.model_ref().locate())


def _benepar(config: PhrasesConfig) -> LazyParser:
    from pipeline.phrases.benepar import open_parser

    return open_parser(config.model)


def _corenlp(config: PhrasesConfig) -> LazyParser:
    from pipeline.phrases.corenlp import open_parser

    return open_parser(config.url, config.timeout_s, config.model)


def _noun_chunks(config: PhrasesConfig) -> LazyParser:
    from pipeline.phrases.noun_chunks import open_parser

    return open_parser(config.model)


PARSERS: dict[str, Callable[[PhrasesConfig], LazyParser]] = {
    "embedded": _embedded,
    "benepar": _benepar,
    "corenlp": _corenlp,
    "noun-chunks": _noun_chunks,
}

"""From parameters to a parser. Each parser's module is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from cache import weights
from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.parser import Parser


def build_parser(config: PhrasesConfig) -> Parser:
    """The parser that the parameters name, ready to use; raises WeightsError for a model that is not there."""
    return PARSERS[config.parser](config)


def _embedded(config: PhrasesConfig) -> Parser:
    from pipeline.phrases import embedded

    return embedded.load(weights.find(config.model, config.digest or None))


PARSERS: dict[str, Callable[[PhrasesConfig], Parser]] = {"embedded": _embedded}

"""The phrases stage's parameters, and the parsers that they name."""

from typing import Literal

from pydantic import Field, field_validator

from cache.models import Kind as ModelKind
from cache.models import ModelRef
from pipeline.engine import Engine
from pipeline.phrases.parser import LazyParser
from schema.config import Config
from schema.errors import WeightsError

Kind = Literal["all", "maximal", "base"]


class PhrasesConfig(Config):
    """Parameters of the phrases stage. Those below `timeout_s` act on parsed trees: changing them parses nothing."""

    parser: str = "embedded"  # a name of PARSERS
    model: str = "parser"  # embedded weights, a benepar folder, a spaCy pipeline; for corenlp the server's release
    digest: str = ""  # sha256 that the model must have, "" for no check
    url: str = "http://localhost:9000"  # of the CoreNLP server
    engine: Engine = "local"
    actors: int = Field(default=0, ge=0)  # of `engine: ray`; 0: as many as fit on the cluster
    timeout_s: float = Field(default=60.0, gt=0)  # of one request to the server
    kind: Kind = "all"
    labels: tuple[str, ...] = Field(default=("NP",), min_length=1)
    max_phrases: int | None = Field(default=16, ge=0)  # of one post; the longest are cut first, and counted

    @field_validator("parser")
    @classmethod
    def _check_parser(cls, name: str) -> str:
        if name not in PARSERS:
            raise ValueError(f"unknown parser {name!r}; use one of {', '.join(PARSERS)}")
        return name

    def model_ref(self) -> ModelRef:
        """The parser's model; its digest goes into the rows' keys (a CoreNLP server has none)."""
        kind = PARSERS[self.parser]
        return ModelRef(self.url if kind == "server" else self.model, "parser", kind, digest=self.digest)


PARSERS: dict[str, ModelKind] = {  # the kind of each parser's model
    "embedded": "embedded",
    "benepar": "benepar",
    "corenlp": "server",
    "noun-chunks": "spacy",
}


def open_parser(config: PhrasesConfig) -> LazyParser:
    """The parser that the parameters name; its model is loaded for the first sentence.

    Raises WeightsError for a model that is missing, or is not that of `config.digest`.
    """
    parser = _open(config)
    digest = parser.identity.get("weights", "")
    if config.digest and config.digest != digest:
        what = f"the {config.parser} parser does not match phrases.digest"
        found = digest or "a parser whose model has no digest"
        todo = "fetch the model again, or set phrases.digest to the digest of this model"
        raise WeightsError(what, where=config.model, found=found, todo=todo)
    return parser


def _open(config: PhrasesConfig) -> LazyParser:
    # Late imports: only the libraries of the parser that is used are loaded
    if config.parser == "embedded":
        from pipeline.phrases import span_parser

        return span_parser.open_parser(config.model_ref().locate())
    if config.parser == "benepar":
        from pipeline.phrases import benepar

        return benepar.open_parser(config.model)
    if config.parser == "corenlp":
        from pipeline.phrases.corenlp import CoreNlpParser

        server = CoreNlpParser(config.url, config.timeout_s, config.model)
        return LazyParser(server.identity, lambda: server)
    from pipeline.phrases import noun_chunks

    return noun_chunks.open_parser(config.model)


PRESETS = {
    **dict.fromkeys(("embedded", "smoke", "tiny"), PhrasesConfig()),
    "paper": PhrasesConfig(parser="corenlp", model="", max_phrases=None),  # Section 3.1: the Stanford parser, all NPs
}

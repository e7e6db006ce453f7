"""Which parser finds the noun phrases, and which of a tree's noun phrases are kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cache.model_catalog import Kind as ModelKind
from cache.models import ModelRef
from pipeline.engine import Engine
from schema.config import Config

Kind = Literal["all", "maximal", "base"]
MODEL_KINDS: dict[str, ModelKind] = {
    "embedded": "embedded",
    "benepar": "benepar",
    "corenlp": "server",
    "noun-chunks": "spacy",
}


class PhrasesConfig(Config):
    """Parameters of the phrases stage. Those below `timeout_s` act on parsed trees: changing them parses nothing."""

    parser: Literal["embedded", "benepar", "corenlp", "noun-chunks"] = "embedded"
    model: str = "parser"  # embedded weights, a benepar folder, a spaCy pipeline; for corenlp what release serves
    digest: str = ""  # sha256 that the model must have, "" for no check
    url: str = "http://localhost:9000"  # of the CoreNLP server
    engine: Engine = "local"
    actors: int = Field(default=0, ge=0)  # of `engine: ray`; 0: as many as the cluster has room for
    timeout_s: float = Field(default=60.0, gt=0)  # of one request to it
    kind: Kind = "all"
    labels: tuple[str, ...] = Field(default=("NP",), min_length=1)
    max_phrases: int | None = Field(default=16, ge=0)  # of one post; the longest are cut first, and counted

    def model_ref(self) -> ModelRef:
        """The parser's model; its digest goes into the rows' keys (a CoreNLP server has none)."""
        name = self.url if self.parser == "corenlp" else self.model
        return ModelRef(name, "parser", MODEL_KINDS[self.parser], digest=self.digest)


PRESETS: dict[str, PhrasesConfig] = {
    "embedded": PhrasesConfig(),
    "smoke": PhrasesConfig(),
    "tiny": PhrasesConfig(),
    "paper": PhrasesConfig(parser="corenlp", model="", max_phrases=None),  # Section 3.1: the Stanford parser, all NPs
}

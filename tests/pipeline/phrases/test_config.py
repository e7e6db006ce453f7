import pytest

from pipeline.phrases.config import PRESETS, PhrasesConfig
from schema.errors import ConfigError


def test_the_papers_preset_is_its_own_parser_without_a_cap():
    paper = PhrasesConfig.from_section({"preset": "paper"}, "phrases", PRESETS)
    assert (paper.parser, paper.kind, paper.max_phrases) == ("corenlp", "all", None)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"parser": "stanford"},
            "phrases.parser: unknown parser 'stanford'; use one of embedded, benepar, corenlp, noun",
        ),
        ({"max_phrase": 3}, r"phrases.max_phrase: unknown key, did you mean max_phrases\?"),
        ({"labels": []}, "phrases.labels"),
        ({"timeout_s": 0}, "phrases.timeout_s"),
    ],
)
def test_bad_values(section, message):
    with pytest.raises(ConfigError, match=message):
        PhrasesConfig.from_section(section, "phrases", PRESETS)
